"""Encodes a stream of items as NDJSON or as server-sent events (WHATWG HTML, 9.2)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from api.media_types import EVENT_STREAM, NDJSON
from api.streams.result_stream import Page
from shared.models import JobItem, JobSummary


class StreamFormat(Protocol):
    media_type: str

    def item(self, item: JobItem) -> bytes: ...

    def summary(self, summary: JobSummary) -> bytes:
        """Returns the last part of a stream: the job without its responses."""


class NdjsonFormat:
    media_type = NDJSON

    def item(self, item: JobItem) -> bytes:
        return item.to_json().encode() + b"\n"

    def summary(self, summary: JobSummary) -> bytes:
        return summary.model_dump_json().encode() + b"\n"


class ServerSentEventsFormat:
    media_type = EVENT_STREAM

    def item(self, item: JobItem) -> bytes:
        return server_sent_event("item", item.to_json(), event_id=item.cursor)

    def summary(self, summary: JobSummary) -> bytes:
        """Returns the event `done` if the job has ended, otherwise the event `status`.

        The id of `done` is the number of items plus 1. A client that sends this id back has read
        all events.
        """
        data = summary.model_dump_json()
        if summary.finished_at is None:
            return server_sent_event("status", data)
        return server_sent_event("done", data, event_id=summary.total_requests + 1)


STREAM_FORMATS: dict[str, StreamFormat] = {
    NDJSON: NdjsonFormat(),
    EVENT_STREAM: ServerSentEventsFormat(),
}


def server_sent_event(name: str, data: str, *, event_id: int | None = None) -> bytes:
    """Returns one encoded event. `data` must not contain line breaks."""
    id_line = "" if event_id is None else f"id: {event_id}\n"
    return f"{id_line}event: {name}\ndata: {data}\n\n".encode()


async def encode_pages(
    pages: AsyncIterator[Page],
    stream_format: StreamFormat,
    *,
    summary: Callable[[], Awaitable[JobSummary]] | None = None,
) -> AsyncIterator[bytes]:
    """Yields the encoded items of each page. A chunk has whole lines or events.

    Empties each page before its chunk is sent, because a client that reads slowly may take minutes
    for the chunk. If there is a `summary`, its result is the last part of the stream.
    """
    async for page in pages:
        chunk = b"".join(map(stream_format.item, page))
        page.clear()
        page.held.resize(len(chunk))
        if chunk:
            yield chunk
    if summary:
        yield stream_format.summary(await summary())
