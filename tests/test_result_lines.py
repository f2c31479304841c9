"""Tests the results that the client yields as lines of JSON."""

import asyncio
import json

import pytest
from support.raw_server import listening, raw
from support.stack import Start, chat

from orchestrator_client import AsyncClient, Client, ConnectionFailed, JobItem, Outcome
from orchestrator_client.models import parse
from orchestrator_client.request_lines import choose_idempotency_key


@pytest.mark.parametrize(
    ("status", "expected"),
    [(None, list(range(120))), ("failed", list(range(0, 120, 2)))],
)
async def test_lines_continue_after_a_restart_of_the_api(
    stack: Start, status: Outcome | None, expected: list[int]
) -> None:
    deployment = await stack(workers=1)
    models = ["sim-404", "m"]
    seen = []
    async with AsyncClient(str(deployment.api.base_url)) as client:
        job = await client.submit(chat(str(n), model=models[n % 2]) for n in range(120))
        async for line in client.result_lines(job.job_id, status=status):
            seen.append(json.loads(line)["index"])
            if len(seen) in {20, 50}:
                deployment.api_process.kill()
                await deployment.api_process.wait()
                await deployment.restart_api()

    assert seen == expected


async def test_a_line_is_what_the_api_sent(stack: Start) -> None:
    deployment = await stack(workers=1)

    with Client(str(deployment.api.base_url)) as client:
        job = client.submit([chat("a"), chat("b")])
        lines = list(client.result_lines(job.job_id))

    sent = (await deployment.api.get(f"/jobs/{job.job_id}/results")).content
    assert lines == [line for line in sent.split(b"\n") if line]


def test_provider_model_and_format_are_part_of_the_idempotency_key() -> None:
    def key(**options: str) -> str:
        return choose_idempotency_key([b'{"input":"x"}'], key=None, new=False, **options)  # type: ignore[arg-type]

    options = [
        {},
        {"provider": "a"},
        {"model": "a"},
        {"format": "openai"},
        {"provider": "a", "model": "a"},
        {"provider": "a", "model": "b"},
        {"webhook_url": "a"},
    ]
    assert len({key(**given) for given in options}) == len(options)
    assert key(model="a", provider="b") == key(provider="b", model="a")


def test_a_result_with_broken_text_in_the_providers_body_is_read() -> None:
    """JSON may have an escaped half of a character, which UTF-8 cannot have."""
    item = {
        "provider": "p",
        "model": "m",
        "content": "é",
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "total_tokens": 2,
        "latency_ms": 1,
        "attempts": 1,
        "timestamp": "2026-01-01T00:00:00Z",
        "queued_ms": 1,
        "retried_ms": 0,
        "index": 0,
        "cursor": 1,
        "body": {"text": "\ud83d"},
    }

    assert parse(JobItem, json.dumps(item).encode()).body == {"text": "\ud83d"}


async def test_a_stream_that_always_breaks_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sends an empty line, which shows that it is alive, and then no valid chunk."""
    monkeypatch.setattr("orchestrator_client.result_lines.MAX_BREAKS", 3)
    monkeypatch.setattr("orchestrator_client.connection.RETRY_S", 0.01)
    broken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\nno chunk\r\n"
    async with raw(broken) as server, AsyncClient(server.url) as client:
        with pytest.raises(ConnectionFailed) as raised:
            async for _ in client.results("job"):
                pass

    assert server.connections == 3
    assert f"from {server.url} broke 3 times in a row before a result arrived" in str(raised.value)
    assert "The job continues." in str(raised.value)


async def test_a_silent_stream_is_opened_again_and_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator_client.connection.TIMEOUT_S", 0.05)
    opened = 0
    reasons: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Holds the first three streams back, as a proxy may, until the client hangs up."""
        nonlocal opened
        await reader.readuntil(b"\r\n\r\n")
        opened += 1
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if opened > 3:
            writer.write(b"0\r\n\r\n")
        await reader.read()
        writer.close()

    async with (
        listening(serve) as url,
        AsyncClient(url, retry_for_s=0.01, on_retry=reasons.append) as client,
    ):
        assert [item async for item in client.results("job")] == []

    assert opened == 4
    [reason] = reasons
    assert reason.startswith(f"The stream of results from {url} was silent for 60 s")
