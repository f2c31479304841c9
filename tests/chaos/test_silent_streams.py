"""Tests streams behind a real proxy that hangs up after 15 s, with the heartbeats of production."""

import asyncio
from pathlib import Path

import httpx
import pytest
from support.processes import PIPE, start
from support.reverse_proxy import reverse_proxy
from support.stack import Start, chat

pytestmark = pytest.mark.chaos


async def test_streams_and_submit_pass_a_proxy_that_hangs_up_after_fifteen_seconds(
    stack: Start, environment: dict[str, str], tmp_path: Path
) -> None:
    deployment = await stack(workers=1, REQUEST_TIMEOUT="60")
    await deployment.simulate(latency_ms=32_000)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("from the command line\n")
    async with (
        reverse_proxy("nginx", [deployment.api.base_url], timeout_s=15) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        submit = await start(
            *("cli.main", "submit", str(prompts), "--provider", "openrouter", "--model", "m"),
            environment=environment | {"ORCHESTRATOR_URL": url},
            stdout=PIPE,
            stderr=PIPE,
        )
        accepted = await client.post("/jobs", json={"requests": [chat("x")]})
        location = accepted.headers["location"]
        (_, said), results, events, batch = await asyncio.gather(
            submit.communicate(),
            client.get(f"{location}/results"),
            client.get(f"{location}/events"),
            client.post(
                "/batch",
                json={"requests": [chat("x")]},
                headers={"Accept": "application/x-ndjson"},
            ),
        )

    assert submit.returncode == 0, said
    assert b"Retrying" not in said
    for answer in (results, events, batch):
        assert "echo: x" in answer.text
