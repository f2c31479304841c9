"""Tests which HTTP requests the simulator reads, and how it keeps connections."""

from collections.abc import AsyncIterator

import httpx
import orjson
import pytest
from support.simulated import (
    PATHS,
    ask,
    chat_body,
    connected,
    exchanged,
    provider,
    raw_request,
    stats,
)

from cli.simulator.connection import MAX_BODY_BYTES


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with provider() as client:
        yield client


async def test_connection_is_kept_alive(client: httpx.AsyncClient) -> None:
    async with connected(client, b"") as (reader, writer):
        for _ in range(3):
            writer.write(raw_request(chat_body()))
            assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Length: ")[2]))


async def test_pipelined_requests_are_answered_in_order(client: httpx.AsyncClient) -> None:
    slow = raw_request(chat_body("sim-latency-20", "first"))
    rest = [raw_request(chat_body(text=f"number {n}")) for n in range(3000)]  # many reads
    last = raw_request(chat_body(text="last"), headers="Connection: close\r\n")
    answer = await exchanged(client, b"".join([slow, *rest, last]))
    expected = ["first", *(f"number {n}" for n in range(3000)), "last"]
    found = [part.partition(b'"')[0].decode() for part in answer.split(b"echo: ")[1:]]
    assert found == expected


async def test_connection_close_is_honoured(client: httpx.AsyncClient) -> None:
    answer = await exchanged(client, raw_request(chat_body(), headers="Connection: close\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in answer


async def test_chunked_body_is_read(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in orjson.dumps(chat_body()):
            yield bytes([byte])

    assert (await client.post(PATHS["openai"], content=chunks())).status_code == 200


async def test_large_body_is_echoed(client: httpx.AsyncClient) -> None:
    text = "é" * 2_000_000
    body = (await ask(client, text=text)).json()
    assert body["choices"][0]["message"]["content"] == f"echo: {text}"


async def test_body_over_the_limit_gets_413(client: httpx.AsyncClient) -> None:
    head = f"POST /api/chat HTTP/1.1\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n"
    assert (await exchanged(client, head.encode())).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("data", [b"no http\r\n\r\n", b"\r\n\r\nGET / HTTP/9\r\n\r\n"])
async def test_bad_http_gets_400(client: httpx.AsyncClient, data: bytes) -> None:
    assert (await exchanged(client, data)).startswith(b"HTTP/1.1 400 ")


async def test_blank_line_before_a_request_is_ignored(client: httpx.AsyncClient) -> None:
    async with connected(client, b"\r\n") as (reader, writer):
        await stats(client)
        writer.write(raw_request(chat_body()))
        assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"


async def test_expect_continue_is_answered(client: httpx.AsyncClient) -> None:
    headers = "Expect: 100-continue\r\nConnection: close\r\n"
    answer = await exchanged(client, raw_request(chat_body(), headers=headers))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
