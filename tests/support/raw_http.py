"""Sends bytes to a server and reads its HTTP responses as they are."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import httpx

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: httpx.Headers
    body: bytes


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *packets: bytes) -> None:
        """Sends the packets with a short pause, because the kernel may join them otherwise."""
        for packet in packets:
            self._writer.write(packet)
            await self._writer.drain()
            await asyncio.sleep(0.002)

    async def response(self, *, body: bool = True) -> Response:
        """Reads one response, whose length must be in its headers. `body` is false for HEAD."""
        async with asyncio.timeout(TIMEOUT_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            status, headers = _parse(head)
            length = int(headers["content-length"]) if body and status != 204 else 0
            return Response(status, headers, await self._reader.readexactly(length))

    async def head(self) -> Response:
        """Reads the status and the headers of a response, whose body stays unread."""
        async with asyncio.timeout(TIMEOUT_S):
            return Response(*_parse(await self._reader.readuntil(b"\r\n\r\n")), b"")

    async def response_until_close(self) -> Response:
        """Reads one response, whose body ends with the connection."""
        async with asyncio.timeout(TIMEOUT_S):
            status, headers = _parse(await self._reader.readuntil(b"\r\n\r\n"))
            return Response(status, headers, await self._reader.read())

    async def is_closed_within(self, seconds: float) -> bool:
        """Returns whether the server closes the connection in this time, and sends nothing."""
        try:
            async with asyncio.timeout(seconds):
                return await self._reader.read(1) == b""
        except TimeoutError:
            return False


def _parse(head: bytes) -> tuple[int, httpx.Headers]:
    status, *lines = head.decode("latin-1").rstrip().split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return int(status.split()[1]), httpx.Headers(headers)


@asynccontextmanager
async def connect(url: httpx.URL) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def split(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """Returns the parts of `data` between the positions."""
    bounds = [0, *positions, len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]
