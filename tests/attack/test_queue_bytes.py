"""Tests the limit of the bytes that an owner's unfinished jobs and files take."""

from random import Random

import httpx
import pytest
from arq.connections import ArqRedis
from support.in_process import running_api, served_api
from support.jobs import NDJSON, lines
from support.raw_http import connect
from support.stack import chat, stored

from shared.queue.keys import Keys
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
