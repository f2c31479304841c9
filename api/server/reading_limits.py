"""Limits the bytes and the time that a connection may take.

uvicorn has no such limits. A client needs no API key for the head of a request, so a head of any
length would fill the memory, and a head without an end would keep the connection forever.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, ClassVar

MAX_HEAD_BYTES = 64 * 1024  # limit of the request line and the headers, together
MAX_HEADERS = 200  # a header takes 150 bytes of memory more than its text
MAX_HEADS_BYTES = 32 * 1024 * 1024  # limit of the unfinished heads of all connections, together
MAX_PIPELINED = 100  # limit of requests of a connection that wait for an earlier response
HEAD_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 60.0  # time for a body, in addition to the time that its size allows
MIN_BODY_RATE = 16 * 1024  # bytes per second; a slower body is refused
READ_TIMEOUT_S = 30.0  # time within which a client must read a part of a response
CHECK_S = 1.0  # time between two checks of all connections
LINGER_S = 2.0  # time in which a refused client can read the refusal


class ReadingState(Enum):
    NOTHING = auto()  # the connection is idle, or waits for a response
    HEAD = auto()
    BODY = auto()


@dataclass(slots=True)
class Progress:
    """Counts what a connection has read of the current request.

    The counts are not attributes of uvicorn's protocol, because this would double its size.
    """

    since: float  # the event loop's time at which the head or the body began
    reading: ReadingState = ReadingState.HEAD
    size: int = 0  # bytes of the head or the body so far
    began_inside: bool = False  # whether the head began inside a chunk, so that `size` is too small
    has_begun: bool = False  # whether the client has sent anything of this head or body
    counted: int = 0  # bytes of this connection in `_heads_bytes`
    chunk_bytes: int = 0  # bytes of the chunk that the parser reads at the moment
    head_chunk_bytes: int = 0  # bytes of this chunk that belong to the current head, if known
    unread_bytes: int = 0  # bytes of responses that the client had not read at the last check
    unread_checks: int = 0  # number of checks since the client last read a part of a response
    is_refused: bool = False
    running: Any = None  # uvicorn's cycle of the request that is being answered


class ReadingLimits:
    """Refuses requests and closes connections that exceed the limits.

    A subclass also extends a protocol class of uvicorn. The subclass calls `_begin` when a head or
    a body begins, and `_received` when its parser has read a part of it. The times are checked for
    all connections together once per `CHECK_S`, because a timer for each request would cost more
    than the rest of this class. The time in which the server does not read, or the client waits for
    a 100 Continue, does not count.
    """

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    flow: Any
    cycle: Any
    connections: set[Any]
    request: Progress
    _heads_bytes: ClassVar[int] = 0
    _checked: ClassVar[asyncio.AbstractEventLoop | None] = None  # loop that has a check scheduled

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self.request = Progress(self.loop.time())
        if ReadingLimits._checked is not self.loop:
            ReadingLimits._checked = self.loop
            self.loop.call_later(CHECK_S, ReadingLimits._check, self.loop, self.connections)

    @classmethod
    def _check(cls, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        for connection in list(connections):
            if isinstance(connection, cls):
                connection.close_if_slow()
        if connections:
            loop.call_later(CHECK_S, ReadingLimits._check, loop, connections)
        elif ReadingLimits._checked is loop:
            ReadingLimits._checked = None

    def connection_lost(self, error: Exception | None) -> None:
        self._count_head(0)
        super().connection_lost(error)  # type: ignore[misc]

    def _begin(self, reading: ReadingState) -> None:
        self.request.reading = reading
        self.request.has_begun = True
        self.request.began_inside = False
        self.request.size = 0
        self.request.since = self.loop.time()

    def _received(self, size: int, headers: int) -> None:
        """Counts bytes that the parser has read. `headers` is the number of headers so far."""
        self.request.size += size
        if headers > MAX_HEADERS:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_MANY_HEADERS)
        if self.request.reading is ReadingState.HEAD:
            if self.request.size > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, HEAD_TOO_LARGE)
            else:
                self._count_head(self.request.size)
        elif self.request.counted:
            self._count_head(0)

    def _count_head(self, size: int) -> None:
        ReadingLimits._heads_bytes += size - self.request.counted
        self.request.counted = size
        if size and ReadingLimits._heads_bytes > MAX_HEADS_BYTES:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, TOO_MANY_HEADS)

    def close_if_slow(self) -> None:
        """Refuses the request or closes the connection if the client sends or reads too slowly."""
        if self._reads_nothing():
            self.transport.abort()  # `close` would wait until the client has read the rest
            return
        if self.request.is_refused or self.request.reading is ReadingState.NOTHING:
            return
        cycle, is_head = self.cycle, self.request.reading is ReadingState.HEAD
        client_waits = not is_head and cycle.waiting_for_100_continue
        if self.flow.read_paused or client_waits:
            self.request.since += CHECK_S
            return
        limit_s = HEAD_TIMEOUT_S if is_head else BODY_TIMEOUT_S
        if not is_head and not cycle.response_complete:
            limit_s += self.request.size / MIN_BODY_RATE
        if self.loop.time() - self.request.since > limit_s:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, TOO_SLOW)

    def _reads_nothing(self) -> bool:
        """Returns whether the client has read nothing of the responses for READ_TIMEOUT_S.

        Counts its calls, so it must be called once per check.
        """
        request, unread = self.request, self.transport.get_write_buffer_size()
        is_stuck = unread > 0 and unread >= request.unread_bytes
        request.unread_checks = request.unread_checks + 1 if is_stuck else 0
        request.unread_bytes = unread
        return request.unread_checks > READ_TIMEOUT_S / CHECK_S

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """Answers the request that the client sends, unless another response is being sent.

        Closes the connection after `LINGER_S`. Until then, discards what the client still sends, so
        that the client reads the answer instead of an error of its connection. If the client sends
        a head while one earlier request is answered, closes the connection after that answer.
        """
        if self.request.is_refused:
            return
        self.request.is_refused = True
        self._count_head(0)
        cycle = self.cycle
        if self._expects_response():
            self.transport.write(_response(status, reason))
        if cycle is not None and not cycle.response_complete:
            if self.request.reading is ReadingState.HEAD and not self._is_pipelined():
                cycle.keep_alive = False  # closes the connection after the earlier response
                return
            cycle.disconnected = True
            cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(LINGER_S, self.transport.close)

    def _expects_response(self) -> bool:
        cycle = self.cycle
        if self.request.reading is ReadingState.BODY:
            return not (cycle.response_started or self._is_pipelined())
        return self.request.has_begun and (cycle is None or cycle.response_complete)

    def _is_pipelined(self) -> bool:
        return False


HEAD_TOO_LARGE = f"the URL and the headers of the request are larger than {MAX_HEAD_BYTES} bytes"
TOO_MANY_HEADERS = f"the request has more than {MAX_HEADERS} headers"
TOO_MANY_HEADS = "this server is receiving too many requests; try again later"
TOO_MANY_PIPELINED = f"more than {MAX_PIPELINED} requests wait for an earlier response"
TOO_SLOW = (
    f"the request arrived too slowly: its headers may take {HEAD_TIMEOUT_S:g} s, and its body"
    f" {BODY_TIMEOUT_S:g} s and 1 s for each {MIN_BODY_RATE} bytes; send the request again"
)


def _response(status: HTTPStatus, reason: str) -> bytes:
    body = b'{"detail":"%b"}' % reason.encode()
    retry = "Retry-After: 1\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n"
    )
    return head.encode() + body
