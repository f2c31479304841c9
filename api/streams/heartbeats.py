"""Sends heartbeats on streams that have nothing else to send.

Proxies close a connection that stays silent, often after 60 s, and a client cannot tell a silent
stream from a broken connection.
"""

import asyncio
from math import inf

from starlette.types import Send

from api.media_types import EVENT_STREAM, NDJSON

HEARTBEAT_S = 10.0  # less than the 15 s that the documents promise, because a process may be slow
CHECK_EVERY = 1 / 10  # time between two checks, as a fraction of HEARTBEAT_S
# The heartbeat by media type. Readers skip heartbeats. Streams of other types have no heartbeats.
BYTES = {NDJSON: b"\n", EVENT_STREAM: b": still here\n\n"}
PIECE_BYTES = 64 * 1024


class OpenStream:
    """Sends chunks of whole lines or events, so that a heartbeat may follow each chunk."""

    __slots__ = ("_heartbeat", "_send", "heartbeat_task", "sent_at")

    def __init__(self, send: Send, media_type: str) -> None:
        self._send = send
        self._heartbeat = BYTES.get(media_type, b"")
        self.heartbeat_task: asyncio.Task[None] | None = None
        self.sent_at = asyncio.get_running_loop().time()  # `inf` while a chunk is sent

    async def send(self, chunk: bytes, piece_timeout_s: float | None = None) -> None:
        """Sends a chunk in pieces, because the server keeps a piece until the client has read it.

        Raises TimeoutError if a piece takes longer than `piece_timeout_s`; None is no limit.
        """
        self.sent_at = inf
        try:
            for start in range(0, len(chunk), PIECE_BYTES):
                piece = chunk[start : start + PIECE_BYTES]
                async with asyncio.timeout(piece_timeout_s):
                    await self._send(
                        {"type": "http.response.body", "body": piece, "more_body": True}
                    )
        finally:
            self.sent_at = asyncio.get_running_loop().time()

    async def send_heartbeat(self) -> None:
        await self.send(self._heartbeat)


class Heartbeats:
    """Sends a heartbeat on each open stream that has sent nothing for `HEARTBEAT_S`.

    One timer serves all streams of a process, because there may be thousands of streams.
    """

    def __init__(self) -> None:
        self._streams: set[OpenStream] = set()
        self._timer: asyncio.TimerHandle | None = None

    def open(self, send: Send, media_type: str) -> OpenStream:
        stream = OpenStream(send, media_type)
        self._streams.add(stream)
        if self._timer is None:
            self._check_later()
        return stream

    def close(self, stream: OpenStream) -> None:
        """Ends the heartbeats of the stream. No heartbeat is sent after this call."""
        self._streams.remove(stream)
        if stream.heartbeat_task:
            stream.heartbeat_task.cancel()
        if not self._streams and self._timer:
            self._timer.cancel()
            self._timer = None

    def _check_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HEARTBEAT_S * CHECK_EVERY, self._check)

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        silent_since = loop.time() - HEARTBEAT_S
        for stream in self._streams:
            if stream.sent_at <= silent_since:
                stream.sent_at = inf
                stream.heartbeat_task = loop.create_task(stream.send_heartbeat())
        self._check_later()
