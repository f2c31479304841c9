"""Tests what clients without a key can cost before their requests have begun."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import httpx
import psutil
import pytest
from support.in_process import served_api
from support.raw_http import Connection, connect
from support.search_depth import FULL
from support.stack import Start, eventually
from support.watch import watched

from api.server import reading_limits
from api.server.uvicorn_protocol import adapt_uvicorn
from shared.settings import Settings

MIB = 1024 * 1024
HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def flood(connection: Connection, start: bytes, piece: bytes, size: int) -> None:
    """Sends `start`, and then `piece` until `size` bytes are sent or the connection breaks."""
    with suppress(ConnectionError):
        await connection.send(start, *[piece] * (size // len(piece)))


async def test_large_heads_are_refused(stack: Start) -> None:
    """A URL of 20 MB, and 100 connections that each send 3 MB of headers."""
    deployment = await stack(workers=0)
    url = deployment.api.base_url
    headers = b"".join(b"h%d:x\r\n" % n for n in range(8_000))
    with watched(url, deployment.api_process.pid) as api:
        async with connect(url) as connection:
            await flood(connection, b"GET /", b"a" * MIB, 20 * MIB)
            assert (await connection.response()).status == 431
        async with AsyncExitStack() as exits:
            connections = [await exits.enter_async_context(connect(url)) for _ in range(100)]
            await asyncio.gather(*(flood(c, HEALTH, headers, 3 * MIB) for c in connections))

    assert api.memory < 30 * MIB, api
    assert api.silent_s < 0.25, api


@pytest.fixture
async def url(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.URL]:
    """An API of this process."""
    monkeypatch.setattr(reading_limits, "CHECK_S", 0.05)
    monkeypatch.setattr(reading_limits, "LINGER_S", 0.2)
    adapt_uvicorn(settings.keep_alive_seconds)
    async with served_api(settings) as client:
        yield client.base_url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API waits so briefly that a busy machine may not send a whole request in time."""
    monkeypatch.setattr(reading_limits, "HEAD_TIMEOUT_S", 0.2)
    monkeypatch.setattr(reading_limits, "BODY_TIMEOUT_S", 0.2)
    monkeypatch.setattr(reading_limits, "READ_TIMEOUT_S", 0.5)


@pytest.mark.parametrize(
    "head",
    [
        HEALTH + b"x: %b\r\n\r\n" % (b"x" * 66_000),
        HEALTH + b"x: %b\r\n" % (b"x" * 300_000),
        HEALTH + b"x:\r\n" * 300 + b"\r\n",
        HEALTH + b"x:\r\n" * 300,
        b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 66_000),
        HEALTH + b"\r\n" + HEALTH + b"x: %b\r\n\r\n" % (b"x" * 66_000),
        HEALTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"x:\r\n" * 300,
    ],
    ids=["header", "no end", "headers", "headers, no end", "url", "second request", "trailers"],
)
async def test_a_head_beyond_the_limits_is_refused(url: httpx.URL, head: bytes) -> None:
    async with connect(url) as connection:
        await connection.send(head)
        answer = await connection.response()
        if b"\r\n\r\n" in head[:60]:  # the response to the first request
            assert answer.status == 200
        else:
            assert (answer.status, answer.headers["connection"]) == (431, "close")
        assert await connection.is_closed_within(30)


async def test_a_head_within_the_limits_is_read(url: httpx.URL) -> None:
    """A client may send requests behind a large body, and a head in many packets."""
    body = b"x" * 200_000
    post = b"POST /batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    head = HEALTH + b"x: %b\r\n\r\n" % (b"x" * 60_000)
    async with connect(url) as connection:
        await connection.send(post + body + head[:50], head[50:30_000], head[30_000:])
        assert (await connection.response()).status == 422
        assert (await connection.response()).status == 200


async def test_no_more_than_100_requests_wait_for_a_response(url: httpx.URL) -> None:
    async with connect(url) as connection:
        await connection.send((HEALTH + b"\r\n") * 5_000)
        assert await connection.is_closed_within(30)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (HEALTH, 408),
        (b"POST /batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx", 408),
        (b"POST /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx", 405),
        (HEALTH + b"\r\n" + HEALTH, 200),
    ],
    ids=["nothing", "head", "body", "refused body", "second head"],
)
async def test_a_request_that_does_not_end_is_closed(
    url: httpx.URL, sent: bytes, status: int | None
) -> None:
    async with connect(url) as connection:
        await connection.send(sent)
        if status:
            assert (await connection.response()).status == status
        if status == 200:
            assert (await connection.response()).status == 408
        assert await connection.is_closed_within(30)


async def test_all_unfinished_connections_are_closed(url: httpx.URL) -> None:
    """Half of them send nothing. The API serves others meanwhile."""
    async with AsyncExitStack() as exits:
        connections = [
            await exits.enter_async_context(connect(url)) for _ in range(2000 if FULL else 200)
        ]
        for connection in connections[::2]:
            await connection.send(HEALTH)
        async with connect(url) as other:
            await other.send(HEALTH + b"\r\n")
            assert (await other.response()).status == 200
        for connection in connections[::2]:
            assert (await connection.response()).status == 408
        assert all([await connection.is_closed_within(30) for connection in connections])


async def test_unfinished_heads_share_a_limit(
    url: httpx.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_limits, "MAX_HEADS_BYTES", 100_000)
    async with AsyncExitStack() as exits:
        for n in range(1, 4):
            connection = await exits.enter_async_context(connect(url))
            await connection.send(HEALTH + b"x: %b" % (b"x" * 40_000))
            if n == 3:
                assert (await connection.response()).status == 503
                await connection.is_closed_within(30)


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_reads_nothing_is_disconnected(url: httpx.URL) -> None:
    """The responses are larger than the buffers of the sockets can hold."""
    request = b"GET /docs/swagger-ui-bundle-5.35.0.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((url.host, url.port))
        client.sendall(request * 20)

        port = client.getsockname()[1]

        async def is_closed() -> bool:
            found = psutil.Process().net_connections("tcp")
            return not any(entry.raddr and entry.raddr.port == port for entry in found)

        async def is_open() -> bool:
            return not await is_closed()

        await eventually(is_open)
        await eventually(is_closed)
