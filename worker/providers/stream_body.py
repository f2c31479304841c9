"""Reads the body of a streamed answer, and passes on the answer's events as they arrive."""

import asyncio
from collections.abc import Callable

import httpx
import orjson

from shared.dialects.sse import EVENT_STREAM, Event, EventParser
from shared.dialects.stream import StreamReader
from shared.memory_budget import Reservation
from worker.providers.answer_limits import MAX_STREAM_BYTES, reserve
from worker.providers.decompression import body_pieces

_UNCOUNTED_BYTES = 2 * 1024 * 1024  # up to this size, no memory is reserved for a stream


Emit = Callable[[bytes], None]


def is_event_stream(response: httpx.Response) -> bool:
    media_type: str = response.headers.get("content-type", "")
    return media_type.lower().startswith(EVENT_STREAM)


class StreamTooLarge(Exception):
    """The stream is larger than MAX_STREAM_BYTES."""


class StreamBody:
    """Reads the body of one streamed answer. Each event restarts the time limit `timeout_s`."""

    def __init__(
        self,
        reader: StreamReader,
        emit: Emit,
        limit: asyncio.Timeout,
        timeout_s: float,
        memory: Reservation,
    ) -> None:
        self._reader = reader
        self._emit = emit
        self._limit = limit
        self._timeout_s = timeout_s
        self._memory = memory

    async def read(self, response: httpx.Response) -> bytes:
        """Returns the JSON of the whole answer, as the provider would send it without a stream.

        Calls `emit` with the events. Raises StreamTooLarge, ErrorInBody, Unfinished,
        httpx.HTTPError, and ValueError if an event is not JSON.
        """
        parser, size = EventParser(), 0
        async for chunk in body_pieces(response):
            size += len(chunk)
            if size > MAX_STREAM_BYTES:
                raise StreamTooLarge
            if size > _UNCOUNTED_BYTES >= size - len(chunk):
                await reserve(self._memory, self._limit, MAX_STREAM_BYTES)
            self._hand_on(parser.feed(chunk))
        self._hand_on(parser.end())
        last, answer = self._reader.end()
        for event in last:
            self._emit(event)
        return orjson.dumps(answer)

    def _hand_on(self, events: list[Event]) -> None:
        if events:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._timeout_s)
        for event in events:
            for encoded in self._reader.read(event):
                self._emit(encoded)
