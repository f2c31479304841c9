"""Tests a Redis that has little memory: new work is refused, and what runs loses nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
from support.jobs import lines, upload
from support.redis_server import Server
from support.stack import Stack, chat, eventually

from shared.queue.redis_keys import Keys
from shared.redis.client import RedisFull

MIB = 1024 * 1024
ITEMS = 100
LIMIT = 48 * MIB


@pytest.fixture
async def deployment(server: Server, keys: Keys) -> AsyncIterator[Stack]:
    await server.client.config_set("maxmemory", LIMIT)
    stack = Stack(server.url, keys, {"MAX_CONCURRENT_REQUESTS": "5"})
    await stack.start(workers=2)
    yield stack
    await stack.stop()


async def fill(api: httpx.AsyncClient) -> tuple[list[str], httpx.Response]:
    """Submits jobs until one is refused. Returns the paths of the jobs, and the refusal."""
    accepted: list[str] = []
    body = lines(["x" * 49_000] * 40)
    for _ in range(100):
        answer = await api.post(
            "/jobs", content=body, headers={"Content-Type": "application/x-ndjson"}
        )
        if answer.status_code != 202:
            return accepted, answer
        accepted.append(answer.headers["location"])
    pytest.fail("no job was refused")


async def fill_completely(server: Server) -> None:
    """Stores other data until Redis refuses writes."""
    with suppress(RedisFull):
        for number in range(10_000):
            await server.client.set(f"other:{number}", b"x" * 100_000)
        pytest.fail("Redis refused nothing")


async def finished(api: httpx.AsyncClient, location: str) -> dict[str, int]:
    async def has_finished() -> bool:
        page = (await api.get("/jobs", params={"limit": 100})).json()["jobs"]
        found = {entry["job_id"]: entry for entry in page}
        return found[location.removeprefix("/jobs/")]["finished_at"] is not None

    await eventually(has_finished, 60)
    entries = (await api.get("/jobs", params={"limit": 100})).json()["jobs"]
    [entry] = [one for one in entries if one["job_id"] == location.removeprefix("/jobs/")]
    return {name: entry[name] for name in ("successful", "failed")}


async def test_new_work_is_refused_and_running_work_continues(
    deployment: Stack, server: Server
) -> None:
    api = deployment.api
    await deployment.simulate(latency_ms=3000)
    call = {"model": "openrouter/m", "messages": [{"role": "user", "content": "x"}]}
    stream = asyncio.create_task(api.post("/v1/chat/completions", json={**call, "stream": True}))
    await deployment.in_flight(1)
    first = await upload(api, lines([str(number) for number in range(ITEMS)]))
    await deployment.in_flight(5)

    accepted, refusal = await fill(api)
    used = (await server.client.info("memory"))["used_memory"]
    await fill_completely(server)  # Redis refuses writes itself

    async def post_file() -> httpx.Response:
        return await api.post("/v1/files", data={"purpose": "batch"}, files={"file": ("f", b"{}")})

    async def is_known() -> bool:
        return "refuses new requests above" in (await post_file()).text

    await eventually(is_known)
    others = [
        await post_file(),
        await api.post("/batch", json={"requests": [chat("x")]}),
        await api.post("/v1/chat/completions", json=call),
    ]
    await deployment.simulate(latency_ms=0)
    counts = [await finished(api, location) for location in (first, *accepted)]

    assert "data: [DONE]" in (await stream).text
    assert used < LIMIT
    for answer in (refusal, *others):
        assert answer.status_code == 503, answer.text
        assert "refuses new requests above 90 %" in answer.text
        assert int(answer.headers["retry-after"]) > 0
    assert counts == [
        {"successful": ITEMS, "failed": 0},
        *({"successful": 40, "failed": 0} for _ in accepted),
    ]

    await server.client.config_set("maxmemory", 4 * LIMIT)

    async def is_accepted() -> bool:
        return (await api.post("/batch", json={"requests": [chat("y")]})).status_code == 200

    await eventually(is_accepted)
