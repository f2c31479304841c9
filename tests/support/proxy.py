"""Forwards a process's connections to Redis, so that a test can cut them."""

import asyncio
from contextlib import AsyncExitStack, suppress

from support.raw_server import listening


class Proxy:
    """Forwards TCP connections to a Unix socket.

    Between `cut` and `mend`, no data passes and no connection is closed, as if packets were lost.
    The data sent in this time arrives after `mend`.
    """

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._whole = asyncio.Event()
        self._whole.set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._listener = AsyncExitStack()

    async def start(self) -> None:
        url = await self._listener.enter_async_context(listening(self._connect))
        self.url = url.replace("http:", "redis:")

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def reset(self) -> None:
        """Closes every connection at once, also in the middle of a message."""
        for writer in self._connections:
            writer.transport.abort()

    async def stop(self) -> None:
        await self._listener.aclose()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await self._whole.wait()
            upstream, downstream = await asyncio.open_unix_connection(self._socket_path)
            await asyncio.gather(self._pump(reader, downstream), self._pump(upstream, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    await self._whole.wait()
                    writer.write(data)
                    await writer.drain()
        finally:
            self._connections.discard(writer)
            writer.close()
