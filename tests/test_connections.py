"""Tests calls on connections that the provider closes, or does not accept, over real sockets."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from support.providers import endpoint_of
from support.raw_server import http, listening

from shared.dialects.dialect import Answer
from shared.models import ErrorCode
from shared.providers import PROVIDERS
from shared.queue.item_request import ItemRequest
from shared.queue.verdict import Verdict
from shared.settings import ProviderSettings
from worker.providers import connections
from worker.providers.client import call
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError

HI = http({"choices": [{"message": {"content": "hi"}}]})
REQUEST: ItemRequest = {
    "provider": "openrouter",
    "model": "m",
    "chat": {"messages": [{"role": "user", "content": "hello"}]},
}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST instead of FIN


class Server:
    """Closes a connection when the second request arrives on it, after `last_bytes`."""

    def __init__(self, last_bytes: bytes, *, reset: bool) -> None:
        self.last_bytes = last_bytes
        self.reset = reset
        self.url = ""
        self.connections = self.requests = 0
        self.all_wait = asyncio.Event()  # answers of first requests wait for it
        self.all_wait.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._read(reader)
            await self.all_wait.wait()
            writer.write(HI)
            await self._read(reader)
            writer.write(self.last_bytes)
            await writer.drain()
            if self.reset:
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        self.requests += 1


@asynccontextmanager
async def serving(last_bytes: bytes = b"", *, reset: bool = False) -> AsyncIterator[Server]:
    server = Server(last_bytes, reset=reset)
    async with listening(server.serve) as server.url:
        yield server


def at(url: str) -> Endpoint:
    return endpoint_of(PROVIDERS["openrouter"], ProviderSettings(api_key="k", base_url=url))


async def failure(client: httpx.AsyncBaseTransport, url: str, timeout_s: float) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await call(client, at(url), REQUEST, timeout_s=timeout_s)
    return caught.value


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_request_on_a_closed_connection_is_sent_again(
    client: httpx.AsyncBaseTransport,
    reset: bool,  # noqa: FBT001
) -> None:
    async with serving(reset=reset) as server:
        answers = [await call(client, at(server.url), REQUEST, timeout_s=30) for _ in range(2)]

    assert answers == [Answer("hi"), Answer("hi")]
    assert (server.connections, server.requests) == (2, 3)


async def test_a_request_is_sent_again_only_once(client: httpx.AsyncBaseTransport) -> None:
    async with serving() as server:
        server.all_wait.clear()
        first = [
            asyncio.create_task(call(client, at(server.url), REQUEST, timeout_s=30))
            for _ in range(2)
        ]
        async with asyncio.timeout(30):
            while server.requests < len(first):
                await asyncio.sleep(0.001)
        server.all_wait.set()
        await asyncio.gather(*first)
        error = await failure(client, server.url, timeout_s=30)

    assert (error.verdict, error.code) == (Verdict.TRANSIENT, ErrorCode.CONNECTION_ERROR)
    assert (server.connections, server.requests) == (2, 4)


@pytest.mark.parametrize("part", [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\n", HI[:-1]])
async def test_a_request_whose_response_began_is_not_sent_again(
    client: httpx.AsyncBaseTransport, part: bytes
) -> None:
    async with serving(part) as server:
        await call(client, at(server.url), REQUEST, timeout_s=30)
        error = await failure(client, server.url, timeout_s=30)

    assert (error.verdict, error.code) == (Verdict.TRANSIENT, ErrorCode.CONNECTION_ERROR)
    assert (server.connections, server.requests) == (1, 2)


async def test_a_server_that_accepts_no_connection_is_unreachable(
    client: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux drops the attempts to connect to a socket whose queue is full."""
    monkeypatch.setattr(connections, "CONNECT_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        with socket.create_connection(address):
            error = await failure(client, "http://{}:{}".format(*address), timeout_s=30)

    assert (error.verdict, error.code, error.status_code, error.message) == (
        Verdict.UNREACHABLE,
        ErrorCode.CONNECTION_ERROR,
        None,
        "the connection to openrouter failed (ConnectionTimeoutError)",
    )


async def test_a_server_without_tls_is_unreachable(client: httpx.AsyncBaseTransport) -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listening(refuse) as url:
        error = await failure(client, url.replace("http:", "https:"), timeout_s=30)

    assert (error.verdict, error.code) == (Verdict.UNREACHABLE, ErrorCode.CONNECTION_ERROR)


async def test_a_server_whose_name_is_unknown_is_unreachable(
    client: httpx.AsyncBaseTransport,
) -> None:
    error = await failure(client, "http://no-such-host.invalid", timeout_s=30)

    assert (error.verdict, error.message) == (
        Verdict.UNREACHABLE,
        "the connection to openrouter failed (ClientConnectorDNSError)",
    )
