"""Tests the limit of the bytes that an owner's unfinished jobs and files take."""

import asyncio
from collections import Counter
from random import Random
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.in_process import running_api, served_api
from support.jobs import NDJSON, lines
from support.raw_http import connect
from support.stack import Start, chat, stored

from shared.jobs.staging import CHUNK_BYTES, Staging
from shared.jobs.store import Store
from shared.queue.redis_keys import Keys
from shared.settings import Settings


async def post(client: httpx.AsyncClient, content: str) -> httpx.Response:
    return await client.post("/batch?mode=async", json={"requests": [chat(content)]})


async def test_an_owners_unfinished_jobs_have_a_limit_of_bytes(
    settings: Settings, redis: ArqRedis, keys: Keys
) -> None:
    async with running_api(settings.model_copy(update={"max_queue_bytes": 5000})) as client:
        first = await post(client, "x" * 3000)
        before = await stored(redis, keys)
        refused = await post(client, "y" * 3000)
        assert refused.status_code == 429
        assert "MAX_QUEUE_BYTES" in refused.json()["detail"]
        assert await stored(redis, keys) == before

        await client.delete(f"/jobs/{first.json()['job_id']}")
        again = await post(client, "y" * 3000)
        assert again.status_code == 202
        await client.delete(f"/jobs/{again.json()['job_id']}")
        assert not await redis.exists(keys.queue_bytes)


@pytest.mark.parametrize(
    ("setting", "limit"), [("max_queue_bytes", 3_000_000), ("max_queue_depth", 700)]
)
async def test_an_upload_beyond_a_limit_is_refused_while_it_arrives(
    settings: Settings, redis: ArqRedis, keys: Keys, setting: str, limit: int
) -> None:
    """The client sends 6 MB of a job of 1 GB, and then waits for the response."""
    head = b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\n"
    async with (
        served_api(settings.model_copy(update={setting: limit})) as client,
        connect(client.base_url) as connection,
    ):
        await connection.send(
            head + b"Content-Length: 1000000000\r\n\r\n", lines(["x" * 3000] * 2000)
        )
        refused = await connection.response()
        assert refused.status == 429
        assert setting.upper() in refused.body.decode()
        assert await stored(redis, keys) == set()


async def test_a_repeated_upload_gets_its_job_although_no_bytes_are_left(
    settings: Settings,
) -> None:
    body = lines(["x" * 3000] * 2000)
    async with running_api(settings.model_copy(update={"max_queue_bytes": 7_000_000})) as client:
        first, again, other = [
            await client.post("/jobs", content=body, headers=NDJSON | {"idempotency-key": key})
            for key in ("a", "a", "b")
        ]
        assert [first.status_code, again.status_code, other.status_code] == [202, 202, 429]
        assert first.json()["job_id"] == again.json()["job_id"]


@pytest.mark.parametrize("before", ["job", "file"])
async def test_files_and_unfinished_jobs_share_a_limit(
    settings: Settings, redis: ArqRedis, keys: Keys, before: str
) -> None:
    async with running_api(settings.model_copy(update={"max_queue_bytes": 700_000})) as api:
        texts = [Random(n).randbytes(25_000).hex() for n in range(6)]

        async def send(kind: str) -> httpx.Response:
            if kind == "job":
                return await api.post("/jobs", content=lines(texts), headers=NDJSON)
            file = {"file": Random(1).randbytes(500_000)}
            return await api.post("/v1/files", files=file, data={"purpose": "user_data"})

        assert (await send(before)).is_success
        known = await stored(redis, keys)
        refused = await send("file" if before == "job" else "job")
        assert (refused.status_code, "MAX_QUEUE_BYTES" in refused.text) == (429, True)
        assert await stored(redis, keys) <= known
        if before == "file":
            [file] = await redis.zrange(keys.file_expirations, 0, -1)
            await redis.zadd(keys.file_expirations, {file: 1})  # the file expires
            assert (await send("job")).is_success


async def send(api: httpx.AsyncClient, kind: str, body: bytes) -> int:
    if kind == "job":
        return (await api.post("/jobs", content=body, headers=NDJSON)).status_code
    form: dict[str, Any] = {"files": {"file": body}, "data": {"purpose": "user_data"}}
    return (await api.post("/v1/files", **form)).status_code


@pytest.mark.parametrize("kind", ["job", "file"])
async def test_uploads_at_once_share_the_limit(
    stack: Start, redis: ArqRedis, keys: Keys, kind: str
) -> None:
    """Each of eight uploads fits alone, and three of them fit together."""
    body = lines(["x" * 40_000] * 150) if kind == "job" else Random(0).randbytes(2_000_000)
    limit = int(3.5 * len(body))
    deployment = await stack(workers=0, MAX_QUEUE_BYTES=str(limit))
    most = 0

    async def measure() -> None:
        nonlocal most
        while True:
            found = [
                await redis.memory_usage(key) or 0
                for name in (keys.payloads(""), keys.file_blocks(""))
                async for key in redis.scan_iter(match=f"{name}*", count=1000)
            ]
            most = max(most, sum(found))

    measuring = asyncio.create_task(measure())
    statuses = Counter(await asyncio.gather(*(send(deployment.api, kind, body) for _ in range(8))))
    measuring.cancel()

    accepted = statuses[202] + statuses[200]
    assert 1 <= accepted <= 3
    assert statuses[429] == 8 - accepted
    assert len(body) < most < 1.1 * limit
    assert await redis.exists(keys.staged_uploads) == 0
    assert await send(deployment.api, kind, body) in ({200, 202} if accepted < 3 else {429})


async def test_an_upload_that_was_lost_with_its_api_counts_until_it_expires(
    settings: Settings, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    """An API that is killed cannot say that its uploads have ended."""
    staging = Staging(redis, keys, store.scripts, "lost")
    await staging.add("ollama", b"x" * CHUNK_BYTES, (None, "ollama", "m"))
    [entry] = await redis.zrange(keys.staged_uploads, 0, -1)
    limit = CHUNK_BYTES + 50_000
    async with running_api(settings.model_copy(update={"max_queue_bytes": limit})) as client:
        refused = await post(client, "x" * 49_000 + "y" * 1000)
        await redis.zadd(keys.staged_uploads, {entry: 1})
        accepted = await post(client, "x" * 49_000 + "z" * 1000)

    assert (refused.status_code, accepted.status_code) == (429, 202)
    assert await redis.exists(keys.staged_uploads) == 0
    assert int(await redis.hget(keys.queue_bytes, "") or 0) < limit - CHUNK_BYTES + 1000  # type: ignore[misc]
