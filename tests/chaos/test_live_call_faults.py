"""Tests live calls whose worker or API is killed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from support.stack import Stack, Start

pytestmark = pytest.mark.chaos

PATH = "/v1/chat/completions"
WORDS = " ".join(map(str, range(30)))
CHAT = {"model": "openrouter/m", "messages": [{"role": "user", "content": WORDS}]}
STREAM = {**CHAT, "stream": True}
REPEATED = {"x-stainless-retry-count": "1"}


@asynccontextmanager
async def stream(
    client: httpx.AsyncClient, headers: dict[str, str] | None = None
) -> AsyncIterator[AsyncIterator[Any]]:
    async def events(response: httpx.Response) -> AsyncIterator[Any]:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))

    async with client.stream("POST", PATH, json=STREAM, headers=headers) as response:
        assert response.status_code == 200
        yield events(response)


async def calls(deployment: Stack) -> int:
    return int((await deployment.stats())["total"])


async def test_a_stream_whose_worker_is_killed_ends_with_an_error(stack: Start) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(chunk_ms=200)

    async with stream(deployment.api) as events:
        await anext(events)
        [worker] = deployment.workers
        worker.kill()
        await worker.wait()
        await deployment.add_worker()
        *_, last = [event async for event in events]

    assert last["error"]["code"] == "worker_lost"
    assert await calls(deployment) == 1
    [job] = (await deployment.api.get("/jobs")).json()["jobs"]
    assert (job["status"], job["failed"]) == ("completed", 1)


async def test_a_stream_whose_api_is_killed_can_be_read_from_its_start(stack: Start) -> None:
    deployment = await stack(workers=1)
    second = await deployment.another_api()
    await deployment.simulate(chunk_ms=100)

    async with stream(deployment.api) as events:
        await anext(events)
        deployment.api_process.kill()
        with pytest.raises(httpx.TransportError):
            [event async for event in events]
    async with stream(second, REPEATED) as events:
        texts = [event["choices"][0]["delta"].get("content") or "" async for event in events]

    assert "".join(texts) == f"echo: {WORDS}"
    assert await calls(deployment) == 1


async def test_a_call_whose_api_is_killed_is_not_paid_for_twice(stack: Start) -> None:
    deployment = await stack(workers=1)
    second = await deployment.another_api()
    await deployment.simulate(latency_ms=2000)

    first = asyncio.create_task(deployment.api.post(PATH, json=CHAT))
    await deployment.in_flight(1)
    deployment.api_process.kill()
    with pytest.raises(httpx.TransportError):
        await first
    answer = await second.post(PATH, json=CHAT, headers=REPEATED)

    assert answer.json()["choices"][0]["message"]["content"] == f"echo: {WORDS}"
    assert await calls(deployment) == 1
