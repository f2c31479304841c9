"""Tests that the examples of `/docs` are also in `docs/`, and that they do what they say."""

import asyncio
import json
import os
from base64 import b64encode
from pathlib import Path

import httpx
from support.command import up
from support.documents import DOCUMENTS, commands
from support.stack import chat

from api.openapi.examples import EXAMPLES


async def test_every_feature_is_shown_as_it_works(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Runs the examples in their order, with three requests, of which one fails."""
    shown = {command.line for document in DOCUMENTS for command in commands(document)}
    requests = [chat("one"), chat("two", provider="ollama"), chat("three", model="sim-404")]
    (tmp_path / "requests.ndjson").write_text("".join(f"{json.dumps(r)}\n" for r in requests))
    (tmp_path / "batch.json").write_text(json.dumps({"requests": requests}))
    # docs/guides/webhooks.md tells its reader to set this.
    secret = {"WEBHOOK_SECRET": f"whsec_{b64encode(bytes(32)).decode()}"}
    outputs: dict[str, str] = {}
    async with up(environment | secret, "--simulate") as deployment:
        for what, line in EXAMPLES.items():
            assert line in shown, what
            job = json.loads(next(iter(outputs.values())))["job_id"] if outputs else ""
            shell = await asyncio.create_subprocess_shell(
                line.replace("localhost:8000", deployment.url).replace("-s", "--fail -s", 1),
                stdout=asyncio.subprocess.PIPE,
                cwd=tmp_path,
                env=os.environ | {"JOB": job, "KEY": "any"},
            )
            async with asyncio.timeout(30):
                output, _ = await shell.communicate()
            assert shell.returncode == 0, what
            outputs[what] = output.decode()
        async with httpx.AsyncClient(base_url=deployment.url) as client:
            document = (await client.get("/openapi.json")).json()

    answers = list(outputs.values())
    results, failed, events, streamed = (answers[n].splitlines() for n in (2, 3, 4, 5))
    assert [json.loads(line)["index"] for line in results] == [0, 1, 2]
    assert [json.loads(line)["error_code"] for line in failed] == ["model_not_found"]
    assert [line for line in events if "event" in line] == ["event: item"] * 3 + ["event: done"]
    assert json.loads(streamed[-1])["failed"] == 1
    assert json.loads(answers[6])["failed"] == 1
    assert json.loads(answers[7])["webhook"]["status"] == "waiting"
    assert json.loads(answers[8])["total_requests"] == 1
    listed = json.loads(answers[9])["jobs"]
    assert {job["status"] for job in listed} == {"completed"}
    assert 3 <= len(listed) <= 5  # the jobs of the webhook and of the retry may still run
    assert json.loads(answers[10])["status"] == "completed"
    assert all(line in document["info"]["description"] for line in EXAMPLES.values())
