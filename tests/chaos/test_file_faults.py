"""Tests faults while a file is uploaded, and while its batch is created and runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from random import Random
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.stack import Stack, eventually

from shared.jobs.staging import STAGING_TTL_S
from shared.queue.redis_keys import Keys

pytestmark = pytest.mark.chaos

CHAT = "/v1/chat/completions"
LIMIT = 10


@pytest.fixture
async def deployment(valkey_url: str, keys: Keys) -> AsyncIterator[Stack]:
    deployment = Stack(valkey_url, keys, {"MAX_CONCURRENT_REQUESTS": str(LIMIT)})
    try:
        await deployment.start(workers=2)
        yield deployment
    finally:
        await deployment.stop()


def lines(count: int) -> bytes:
    body = {"model": "openrouter/m", "messages": [{"role": "user", "content": "hello"}]}
    request = {"method": "POST", "url": CHAT, "body": body}
    return "\n".join(json.dumps({"custom_id": str(n), **request}) for n in range(count)).encode()


async def upload(api: httpx.AsyncClient, content: bytes) -> Any:
    answer = await api.post("/v1/files", files={"file": content}, data={"purpose": "batch"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def create(api: httpx.AsyncClient, file: Any, *, repeated: bool = False) -> Any:
    new = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    headers = {"x-stainless-retry-count": "1"} if repeated else {}
    answer = await api.post("/v1/batches", json=new, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def answered(api: httpx.AsyncClient, batch: Any) -> list[str]:
    """Waits until the batch has ended. Returns the ids in its output file."""
    state: Any = None

    async def has_ended() -> bool:
        nonlocal state
        state = (await api.get(f"/v1/batches/{batch['id']}")).json()
        return bool(state["status"] != "in_progress")

    await eventually(has_ended, 60)
    assert state["error_file_id"] is None, state
    output = await api.get(f"/v1/files/{state['output_file_id']}/content")
    return [json.loads(line)["custom_id"] for line in output.text.splitlines()]


async def exists(redis: ArqRedis, pattern: str) -> list[bytes]:
    return [key async for key in redis.scan_iter(match=f"{pattern}*")]


async def test_an_api_is_killed_in_the_middle_of_an_upload(
    deployment: Stack, redis: ArqRedis, keys: Keys
) -> None:
    other = await deployment.another_api()

    async def form() -> AsyncIterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\n'
        while True:
            yield Random(0).randbytes(100_000)
            await asyncio.sleep(0)

    uploading = asyncio.create_task(
        deployment.api.post(
            "/v1/files",
            content=form(),
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
    )

    async def has_begun() -> bool:
        return bool(await exists(redis, keys.file_blocks("")))

    await eventually(has_begun)
    deployment.api_process.kill()
    with pytest.raises(httpx.TransportError):
        await uploading

    [blocks] = await exists(redis, keys.file_blocks(""))
    assert 0 < await redis.ttl(blocks) <= STAGING_TTL_S
    assert (await other.get("/v1/files")).json()["data"] == []
    file = await upload(other, lines(3))
    assert await answered(other, await create(other, file)) == ["0", "1", "2"]


async def test_an_api_is_killed_while_it_creates_a_batch(
    deployment: Stack, redis: ArqRedis, keys: Keys
) -> None:
    """OpenAI's client repeats the request. No request is sent to the provider twice."""
    other = await deployment.another_api()
    count = 2000
    file = await upload(other, lines(count))
    creating = asyncio.create_task(create(deployment.api, file))

    async def has_begun() -> bool:
        return bool(await exists(redis, keys.payloads("")))

    await eventually(has_begun)
    deployment.api_process.kill()
    with suppress(httpx.TransportError):
        await creating

    batch = await create(other, file, repeated=True)
    listed = (await other.get("/v1/batches")).json()["data"]

    assert [entry["id"] for entry in listed] == [batch["id"]]
    assert await answered(other, batch) == [str(number) for number in range(count)]
    assert (await deployment.stats())["total"] == count


async def test_a_worker_is_killed_in_the_middle_of_a_batch(deployment: Stack) -> None:
    await deployment.simulate(latency_ms=100)
    count = 200
    batch = await create(deployment.api, await upload(deployment.api, lines(count)))
    await deployment.in_flight(LIMIT)

    deployment.workers[0].kill()
    answers = await answered(deployment.api, batch)

    assert answers == [str(number) for number in range(count)]
    assert (await deployment.stats())["total"] <= count + LIMIT
