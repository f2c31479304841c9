"""Tests how much memory readers and bodies of requests can take in an API process."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest
from arq.connections import ArqRedis
from support.jobs import lines, upload
from support.raw_http import connect
from support.search_depth import FULL
from support.stack import Start
from support.watch import quiet, watched

from shared.queue.redis_keys import Keys

MIB = 1024 * 1024
LIMIT = 150 * MIB


async def finished_job(api: httpx.AsyncClient, redis: ArqRedis, keys: Keys, answer: int) -> str:
    """Returns the path of a job that has 20 answers of `answer` characters."""
    location = await upload(api, lines(["x"] * 20))
    job_id = location.removeprefix("/jobs/")
    result = "1 " + json.dumps({"content": "x" * answer})
    for index in range(20):
        await redis.hset(keys.results(job_id), str(index), result)  # type: ignore[misc]
    await redis.rpush(keys.completion_order(job_id), *range(20))  # type: ignore[misc]
    await redis.hset(keys.job(job_id), "finished_ms", "1")  # type: ignore[misc]
    return location


@contextmanager
def not_reading(url: httpx.URL, path: str, readers: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as exits:
        sockets = [exits.enter_context(socket.socket()) for _ in range(readers)]
        for reader in sockets:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((url.host, url.port))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert reader.recv(15) == b"HTTP/1.1 200 OK"
        yield sockets


@pytest.mark.parametrize(
    ("readers", "answer"),
    [(8, 3_500_000), *([(300, 3_500_000), (300, 200_000)] if FULL else [(60, 1_000_000)])],
)
async def test_readers_that_do_not_read_take_little_memory(
    stack: Start, redis: ArqRedis, keys: Keys, readers: int, answer: int
) -> None:
    deployment = await stack(workers=0)
    location = await finished_job(deployment.api, redis, keys, answer)
    url, pid = deployment.api.base_url, deployment.api_process.pid
    with watched(url, pid) as api:
        for path in (location, f"{location}/results"):
            with not_reading(url, path, readers):
                await quiet(pid)

    assert api.memory < LIMIT, api
    assert api.silent_s < 0.25, api


async def test_a_job_of_large_answers_is_sent_in_parts(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=0)
    location = await finished_job(deployment.api, redis, keys, 16 * MIB if FULL else 8 * MIB)
    size = 0
    with watched(deployment.api.base_url, deployment.api_process.pid) as api:
        async with deployment.api.stream("GET", location) as answer:
            async for chunk in answer.aiter_bytes():
                size += len(chunk)

    assert size > 20 * (16 if FULL else 8) * MIB
    assert api.memory < LIMIT, api
    assert api.silent_s < 0.25, api


@pytest.mark.parametrize("path", ["/batch", "/jobs"])
async def test_half_open_bodies_take_little_memory(stack: Start, path: str) -> None:
    """20 clients each send 12 MB of a body, and no end. Small requests are still accepted."""
    deployment = await stack(workers=0, API_MEMORY_BYTES=str(128 * MIB))
    url, pid = deployment.api.base_url, deployment.api_process.pid
    media_type = "json" if path == "/batch" else "x-ndjson"
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/{media_type}\r\n"
    body = b" " * MIB

    async def half_open() -> None:
        async with connect(url) as connection:
            await connection.send(f"{head}Content-Length: {30 * MIB}\r\n\r\n".encode())
            with suppress(ConnectionError):  # the API has refused the request
                await connection.send(*[body] * 12)
                await stop.wait()

    stop = asyncio.Event()
    with watched(url, pid) as api:
        async with asyncio.TaskGroup() as clients:
            for _ in range(20):
                clients.create_task(half_open())
            await quiet(pid)
            location = await upload(deployment.api, lines(["x"]))
            stop.set()

    assert location
    assert api.memory < 128 * MIB, api
    assert api.silent_s < 0.25, api


@pytest.mark.parametrize(
    ("start", "piece", "status"),
    [
        (b'{"requests":[{', b'"a":1,', 413),
        (b"[", b"1,", 413),
        (b'{"a":', b"[", 413),
        (b'{"requests":[{"provider":"ollama","model":"', b"word, {[", 422),
    ],
    ids=["fields", "ones", "nested", "text"],
)
async def test_a_body_of_many_fields_is_refused_before_it_is_parsed(
    stack: Start, start: bytes, piece: bytes, status: int
) -> None:
    deployment = await stack(workers=0)
    body = start + piece * (32_000_000 // len(piece))
    with watched(deployment.api.base_url, deployment.api_process.pid) as api:
        answer = await deployment.api.post("/batch", content=body)

    assert answer.status_code == status, answer.text
    assert api.memory < LIMIT, api
    assert api.silent_s < 0.25, api


async def test_a_retry_of_large_requests_takes_little_memory(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=0, MAX_QUEUE_BYTES=str(10**9))
    location = await upload(deployment.api, lines(["x"] * 20))
    await deployment.api.delete(location)
    payloads = {str(index): b"x" * 2 * MIB for index in range(20)}
    await redis.hset(keys.payloads(location.removeprefix("/jobs/")), mapping=payloads)  # type: ignore[misc]
    with watched(deployment.api.base_url, deployment.api_process.pid) as api:
        answer = await deployment.api.post(f"{location}/retry")

    assert (answer.status_code, answer.json()["total_requests"]) == (202, 20), answer.text
    assert api.memory < 30 * MIB, api
    assert api.silent_s < 0.25, api


async def test_readers_of_a_large_cancelled_job_take_little_memory(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    """300,000 of 600,000 items have finished, so a reader has to know which have not."""
    count = 600_000
    deployment = await stack(workers=0)
    location = await upload(deployment.api, lines(["x"] * 500))
    job_id = location.removeprefix("/jobs/")
    await deployment.api.delete(location)
    for start in range(0, count, 20_000):
        await redis.rpush(  # type: ignore[misc]
            keys.completion_order(job_id), *range(start, start + 20_000, 2)
        )
    await redis.hset(keys.job(job_id), mapping={"total": count})  # type: ignore[misc]
    path = f"{location}/results?order=completion&after={count // 2}&limit=1"
    with watched(deployment.api.base_url, deployment.api_process.pid) as api:
        answers = [await deployment.api.get(path) for _ in range(3)]

    assert [answer.json()["index"] for answer in answers] == [1] * 3  # the first that is odd
    assert api.memory < 40 * MIB, api
    assert api.silent_s < 0.25, api
