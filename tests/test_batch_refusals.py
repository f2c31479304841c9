"""Tests which batches are refused: invalid input, large bodies and full queues."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
from arq.connections import ArqRedis
from support.batches import Providers, answers, post, service
from support.examples import SEED_EXAMPLE
from support.in_process import running_api
from support.stack import Stack, chat, eventually, queued, stored

from shared.queue.redis_keys import Keys
from shared.settings import Settings


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        (b"", ["body"]),
        (b"{", ["body"]),
        (b'{"requests": [\xff]}', ["body"]),
        (json.dumps({"requests": [chat("x")]}).encode("utf-16"), ["body"]),
        (json.dumps({"requests": [chat("\ud800")]}), ["body"]),
        (b"null", ["body"]),
        (b"[]", ["body"]),
        (b"{}", ["body", "requests"]),
        (json.dumps({"requests": []}), ["body", "requests"]),
        (json.dumps({"requests": [chat("x")] * 101}), ["body", "requests"]),
        (
            json.dumps({"requests": [chat("x"), chat(" ")]}),
            ["body", "requests", 1, "messages", 0, "content"],
        ),
        (
            json.dumps({"requests": [chat("x"), chat("x", temperature=float("nan"))]}),
            ["body", "requests", 1, "temperature"],
        ),
        (
            json.dumps({"requests": [chat("x", max_tokens=0)]}),
            ["body", "requests", 0, "max_tokens"],
        ),
        (json.dumps({"requests": [chat("x") | {"top_k": 1}]}), ["body", "requests", 0, "top_k"]),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_invalid_input_is_located_and_nothing_is_stored(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys, body: bytes | str, loc: list[str | int]
) -> None:
    answer = await api.post("/batch", content=body)

    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [loc]
    assert await stored(redis, keys) == set()


async def test_duplicate_request_id_is_located_and_nothing_is_stored(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys
) -> None:
    answer = await post(api, chat("x", request_id="a"), chat("y", request_id="a"))

    assert answer.status_code == 422
    assert "requests[1].request_id" in answer.json()["detail"][0]["msg"]
    assert await stored(redis, keys) == set()


async def test_error_does_not_repeat_the_input(api: httpx.AsyncClient) -> None:
    answer = await post(api, chat("my secret", max_tokens=0), chat("my secret", role="my secret"))

    assert answer.status_code == 422
    assert "my secret" not in answer.text


async def test_unknown_mode_is_refused(api: httpx.AsyncClient) -> None:
    answer = await api.post("/batch?mode=later", json=SEED_EXAMPLE)

    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [["query", "mode"]]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 202),
        ("application/json; charset=utf-8", 202),
        ("Application/JSON", 202),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonp", 415),
        ("application/problem+json", 415),
        ("", 415),
    ],
)
async def test_content_type(api: httpx.AsyncClient, content_type: str, status: int) -> None:
    answer = await api.post(
        "/batch?mode=async",
        content=json.dumps(SEED_EXAMPLE),
        headers={"Content-Type": content_type},
    )

    assert answer.status_code == status


class Chunks:
    """A body of 1 KB chunks. It counts the chunks that were read."""

    def __init__(self) -> None:
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(1000):
            self.read += 1
            yield b" " * 1000


@pytest.mark.parametrize(
    ("headers", "most_read"),
    [
        ({"Content-Length": "1000000"}, 1),  # the test's transport reads one chunk ahead
        ({"Transfer-Encoding": "chunked"}, 12),
        ({"Content-Length": "10"}, 12),  # less than the real length
    ],
    ids=["declared", "chunked", "lying"],
)
async def test_too_large_body_is_refused_and_not_read(
    settings: Settings, redis: ArqRedis, keys: Keys, headers: dict[str, str], most_read: int
) -> None:
    body = Chunks()
    async with running_api(settings.model_copy(update={"max_body_bytes": 10_000})) as client:
        answer = await client.post("/batch", content=body, headers=headers)

    assert answer.status_code == 413
    assert body.read <= most_read
    assert await stored(redis, keys) == set()


async def test_body_at_the_limit_is_accepted(settings: Settings) -> None:
    body = json.dumps(SEED_EXAMPLE).encode()
    async with running_api(settings.model_copy(update={"max_body_bytes": len(body)})) as client:
        accepted = await client.post("/batch?mode=async", content=body)
        refused = await client.post("/batch?mode=async", content=body + b" ")

    assert (accepted.status_code, refused.status_code) == (202, 413)


async def test_endless_body_closes_the_connection(valkey_url: str, keys: Keys) -> None:
    deployment = Stack(valkey_url, keys, {"MAX_BODY_BYTES": "100000"})
    try:
        await deployment.start(workers=0)
        url = deployment.api.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(
            b"POST /batch HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        answer = asyncio.create_task(reader.read())
        sent = 0
        with suppress(ConnectionError):
            while sent < 100_000_000:
                writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                sent += 0x10000
                await writer.drain()
        status = b""  # the reset of the connection may arrive before the status
        with suppress(ConnectionError):
            status = await asyncio.wait_for(answer, 10)
        writer.close()
    finally:
        await deployment.stop()

    assert status[:13] in {b"", b"HTTP/1.1 413 "}
    assert sent < 20_000_000  # more than the buffers of the sockets can hold


async def test_batch_is_refused_if_one_of_its_lanes_is_full(
    settings: Settings, redis: ArqRedis, keys: Keys
) -> None:
    async with running_api(settings.model_copy(update={"max_queue_depth": 3})) as client:
        accepted = await post(client, *[chat("x")] * 3, params={"mode": "async"})
        before = await stored(redis, keys)
        refused = await post(
            client, chat("y", provider="ollama"), chat("y"), params={"mode": "async"}
        )
        other = await post(client, chat("z", provider="ollama"), params={"mode": "async"})

        assert accepted.status_code == 202
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert "openrouter" in refused.json()["detail"]
        assert other.status_code == 202
        job_id = other.json()["job_id"]
        assert await stored(redis, keys) - before == {
            keys.job(job_id),
            keys.payloads(job_id),
            keys.queue("ollama", job_id, "m"),
            keys.depth("ollama"),
            keys.fair_queue("ollama"),
            keys.fair_queue("ollama", ""),
            keys.fair_queue("ollama", "", "bulk"),
        }


async def test_lane_that_has_emptied_accepts_again(
    settings: Settings, providers: Providers
) -> None:
    async with service(settings, providers, max_queue_depth=2) as client:
        for _ in range(3):
            assert len(await answers(client, chat("x"), chat("y"))) == 2


async def test_open_requests_are_limited(settings: Settings, redis: ArqRedis, keys: Keys) -> None:
    async with running_api(settings.model_copy(update={"max_open_requests": 1})) as client:
        waiting = asyncio.create_task(post(client, chat("x")))

        async def accepted() -> bool:
            return bool(await queued(redis, keys))

        await eventually(accepted)
        refused = await post(client, chat("y"))
        health = await client.get("/health")
        [job_key] = [key async for key in redis.scan_iter(match=f"{keys.job('')}*")]
        waiting.cancel()

        async def free() -> bool:
            job_id = job_key.decode().removeprefix(keys.job(""))
            return (await client.get(f"/jobs/{job_id}")).status_code == 200

        await eventually(free)

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert health.status_code == 200
