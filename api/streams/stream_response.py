"""Sends the body of a response in chunks, while the chunks are produced."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.disconnect import cancel_on_disconnect, wait_for_disconnect
from api.errors.exception_types import ClientDisconnected
from api.streams.heartbeats import Heartbeats
from api.streams.result_stream import StreamInterrupted
from shared.jobs.service import JobNotFound
from shared.redis.client import RedisUnavailable

SEND_TIMEOUT_S = 30.0  # time within which a client must read a piece of a chunk
# A client must read a chunk within SEND_TIMEOUT_S plus the time that the chunk takes at this rate.
MIN_READ_RATE = 16 * 1024  # bytes per second
STREAMS = "orchestrator.streams"  # key in the ASGI scope: see api.middleware.deferred_stream
# X-Accel-Buffering is for nginx.
_UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

log = structlog.get_logger()


class StreamResponse(Response):
    """Sends `chunks` until they end or the client disconnects.

    While `chunks` has nothing to send, heartbeats are sent if the media type has heartbeats. A
    client that reads no data for `SEND_TIMEOUT_S`, or less than `MIN_READ_RATE`, is disconnected. A
    stream that cannot be completed is closed without the last HTTP chunk, so that the client sees
    an error instead of a normal end. `on_disconnect` is called if the client disconnects, or is
    disconnected because it reads too slowly, before the stream ends.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        media_type: str,
        *,
        status_code: int = HTTPStatus.OK,
        headers: dict[str, str] | None = None,
        on_disconnect: Callable[[], Coroutine[Any, Any, object]] | None = None,
    ) -> None:
        super().__init__(status_code=status_code, media_type=media_type, headers=_UNBUFFERED)
        del self.headers["content-length"]
        self.headers.update(headers or {})
        self._chunks = chunks
        self._media_type = media_type
        self._on_disconnect = on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds the response to the ASGI scope; DeferredStreamMiddleware sends it."""
        del receive, send
        scope[STREAMS].append(self)

    async def run(self, receive: Receive, send: Send, heartbeats: Heartbeats) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        try:
            await cancel_on_disconnect(
                wait_for_disconnect(receive), self._send_chunks(send, heartbeats)
            )
        except (ClientDisconnected, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                log.warning(
                    "reader_dropped",
                    reason=f"the client read no data for {SEND_TIMEOUT_S:g} s, or read too slowly",
                )
            if self._on_disconnect:
                await self._on_disconnect()
        except (StreamInterrupted, JobNotFound, RedisUnavailable, OSError) as error:
            log.warning("stream_interrupted", reason=_reason(error))
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": b""})

    async def _send_chunks(self, send: Send, heartbeats: Heartbeats) -> None:
        stream = heartbeats.open(send, self._media_type)
        try:
            async with aclosing(self._chunks) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    async with asyncio.timeout(SEND_TIMEOUT_S + len(chunk) / MIN_READ_RATE):
                        await stream.send(chunk, SEND_TIMEOUT_S)
        finally:
            heartbeats.close(stream)


def _reason(error: Exception) -> str:
    match error:
        case JobNotFound():
            return "the job's results have expired"
        case RedisUnavailable():
            return f"Redis is unavailable: {error}"
    return str(error) or type(error).__name__
