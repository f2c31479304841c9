"""Answers that come bit by bit: NDJSON, and server-sent events as the HTML standard has them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol

import structlog
from redis.exceptions import RedisError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.middleware.request_metrics import ROUTE
from api.result_stream import Interrupted
from shared.jobs.service import JobNotFound
from shared.models import JobItem, JobSummary

NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"
STALLED_S = 30.0  # for which a reader may read nothing
SEND_BYTES = 64 * 1024
STREAM = "orchestrator.stream"  # in the scope
_UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # by nginx, too

log = structlog.get_logger()


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Format(Protocol):
    media_type: str

    def item(self, item: JobItem) -> bytes: ...
    def summary(self, summary: JobSummary) -> bytes: ...
    def heartbeat(self) -> bytes: ...


class Ndjson:
    media_type = NDJSON

    def item(self, item: JobItem) -> bytes:
        return item.model_dump_json().encode() + b"\n"

    def summary(self, summary: JobSummary) -> bytes:
        return _without_answers(summary).encode() + b"\n"

    def heartbeat(self) -> bytes:
        """None: an empty line is no JSON."""
        return b""


class ServerSentEvents:
    media_type = EVENT_STREAM

    def item(self, item: JobItem) -> bytes:
        return event("item", item.cursor, item.model_dump_json())

    def summary(self, summary: JobSummary) -> bytes:
        """`done` has an id of its own, one after the last item's: who has seen it needs no more."""
        data = _without_answers(summary)
        if summary.finished_at is None:
            return event("status", None, data)
        return event("done", summary.total_requests + 1, data)

    def heartbeat(self) -> bytes:
        return b": still here\n\n"


FORMATS: dict[str, Format] = {NDJSON: Ndjson(), EVENT_STREAM: ServerSentEvents()}


def _without_answers(summary: JobSummary) -> str:
    return summary.model_dump_json(exclude={"responses"})


def event(name: str, event_id: int | None, data: str) -> bytes:
    """The data has no line breaks."""
    identity = "" if event_id is None else f"id: {event_id}\n"
    return f"{identity}event: {name}\ndata: {data}\n\n".encode()


async def filter_items(
    pages: AsyncIterator[list[JobItem]],
    keep: Callable[[JobItem], bool],
    *,
    limit: int | None,
    content: bool,
) -> AsyncIterator[list[JobItem]]:
    """The items wanted, up to so many, perhaps without their answers; empty pages stay."""
    left = limit
    async with aclosing(pages):  # type: ignore[type-var]
        async for page in pages:
            items = [item for item in page if keep(item)][:left]
            if not content:
                items = [item.model_copy(update={"content": ""}) for item in items]
            yield items
            if left is not None:
                left -= len(items)
                if not left:
                    return


async def encode_pages(
    pages: AsyncIterator[list[JobItem]],
    form: Format,
    *,
    summary: Callable[[], Awaitable[JobSummary]] | None = None,
) -> AsyncIterator[bytes]:
    """In pieces of about `SEND_BYTES`, whatever a page has in it."""
    async for page in pages:
        if not page:
            yield form.heartbeat()
        piece = b""
        for item in page:
            piece += form.item(item)
            if len(piece) >= SEND_BYTES:
                yield piece
                piece = b""
        yield piece
    if summary:
        yield form.summary(await summary())


class DeferredStreamMiddleware:
    """Middleware: runs the stream that a route has answered with, when the route is done."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams: list[Stream] = []
        scope[STREAM] = streams
        known = set(scope)
        await self._app(scope, receive, send)
        if streams:
            for name in scope.keys() - known - {ROUTE}:
                del scope[name]
            del known
            await streams.pop().run(receive, send)


class Stream(Response):
    """When it cannot be whole it ends without its last chunk, so that the client notices. A reader
    that takes nothing for `STALLED_S` is dropped."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        media_type: str,
        *,
        headers: dict[str, str] | None = None,
        when_gone: Callable[[], Coroutine[Any, Any, object]] | None = None,
    ) -> None:
        super().__init__(media_type=media_type, headers=_UNBUFFERED)
        del self.headers["content-length"]
        self.headers.update(headers or {})
        self._pieces = pieces
        self._when_gone = when_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Nothing yet: whatever the framework keeps for a request would be kept for the whole life
        of the stream, and is twice as much as the rest of it."""
        del receive, send
        scope[STREAM].append(self)

    async def run(self, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        try:
            await cancel_on_disconnect(receive, self._write(send))
        except (ClientGone, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                log.warning("reader_dropped", reason="it did not read")
            if self._when_gone:
                await self._when_gone()
        except (Interrupted, JobNotFound, RedisError, OSError) as error:
            log.warning("stream_cut", reason=type(error).__name__)
        else:
            await send({"type": "http.response.body", "body": b""})

    async def _write(self, send: Send) -> None:
        async with aclosing(self._pieces) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if piece:
                    async with asyncio.timeout(STALLED_S):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def cancel_on_disconnect(receive: Receive, work: Awaitable[None]) -> None:
    """Does the work as long as the client is there. The body of the request must have been read.
    Raises ClientGone."""
    working = asyncio.current_task()
    assert working is not None  # noqa: S101 — this is a coroutine
    gone = asyncio.ensure_future(_gone(receive))
    over = False

    def stop(gone: asyncio.Future[None]) -> None:
        if not (over or gone.cancelled()):
            working.cancel()

    gone.add_done_callback(stop)
    try:
        await work
    except asyncio.CancelledError:
        if gone.done() and working.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        over = True  # it may have been called for already
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
