"""Serves HTTP/1.1 on a socket, and sends broken responses on purpose.

httptools parses the requests; the responses are written as bytes. The handler gets one `Exchange`
per connection at a time. A pipelined request waits until the previous exchange has ended, and is
not counted before then.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any

import httptools

from shared.dialects.sse import EVENT_STREAM

MAX_BODY_BYTES = 64 * 1024 * 1024
JSON = "application/json"
Headers = tuple[tuple[str, str], ...]
_MAX_PIPELINED = 64
_DRIP_INTERVAL_S = 0.1


def reason(status: int) -> str:
    """Returns the standard phrase of a status, or "" if the status has no phrase."""
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""


def _has_disconnected(connection: socket.socket) -> bool:
    """Returns whether the client has closed the connection and all data from it has been read."""
    try:
        with connection.dup() as peeked:
            return not peeked.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


@lru_cache(maxsize=256)
def _head(status: int, content_type: str, headers: Headers, *, keep_alive: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason(status)}", f"Content-Type: {content_type}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "Content-Length: "]).encode()


@dataclass(slots=True, eq=False)
class Exchange:
    """Contains one request, which is answered by one call of a `reply` method or of `drop`."""

    connection: "ServerConnection"
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    on_lost: Callable[[], None] | None = None
    """Called if the client disconnects before the answer is written."""
    timer: asyncio.TimerHandle | None = None

    def after(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:  # noqa: ANN401 - as call_later
        """Calls `callback` after the delay, unless the client disconnects before then."""
        if not delay_s:
            callback(*args)
            return
        self.timer = self.connection.loop.call_later(delay_s, callback, *args)

    def reply(
        self, status: int, body: bytes, *, content_type: str = JSON, headers: Headers = ()
    ) -> None:
        head = _head(status, content_type, headers, keep_alive=self.keep_alive)
        self.connection.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        self.connection.finish(close=not self.keep_alive)

    def reply_half(self, body: bytes) -> None:
        """Sends the Content-Length of the whole body and half of the body, and disconnects."""
        head = _head(200, JSON, (), keep_alive=self.keep_alive)
        self.connection.write(b"%b%d\r\n\r\n%b" % (head, len(body), body[: len(body) // 2]))
        self.connection.finish(close=True)

    def reply_drip(self, body: bytes, done: Callable[[], None]) -> None:
        """Sends one byte of the body each 0.1 s, then calls `done`."""
        head = _head(200, JSON, (), keep_alive=self.keep_alive)
        self.connection.write(b"%b%d\r\n\r\n" % (head, len(body)))
        self.after(_DRIP_INTERVAL_S, self._drip, body, 0, done)

    def _drip(self, body: bytes, sent: int, done: Callable[[], None]) -> None:
        self.connection.write(body[sent : sent + 1])
        if sent + 1 < len(body):
            self.after(_DRIP_INTERVAL_S, self._drip, body, sent + 1, done)
        else:
            done()
            self.connection.finish(close=not self.keep_alive)

    def reply_stream(
        self, events: list[bytes], interval_s: float, done: Callable[[], None], *, is_whole: bool
    ) -> None:
        """Sends the first event at once and the others at intervals, then calls `done`.

        If `is_whole` is false, the connection is then closed without the end of the body.
        """
        head = _head(200, EVENT_STREAM, (("Transfer-Encoding", "chunked"),), keep_alive=True)
        self.connection.write(head.removesuffix(b"Content-Length: ") + b"\r\n")
        self._stream(events, 0, interval_s, done, is_whole=is_whole)

    def _stream(
        self,
        events: list[bytes],
        sent: int,
        interval_s: float,
        done: Callable[[], None],
        *,
        is_whole: bool,
    ) -> None:
        while sent < len(events):
            self.connection.write(b"%x\r\n%b\r\n" % (len(events[sent]), events[sent]))
            sent += 1
            if interval_s and sent < len(events):
                more = partial(self._stream, events, sent, interval_s, done, is_whole=is_whole)
                self.after(interval_s, more)
                return
        if is_whole:
            self.connection.write(b"0\r\n\r\n")
        done()
        self.connection.finish(close=not (is_whole and self.keep_alive))

    def drop(self) -> None:
        self.connection.finish(close=True)

    def abandon(self) -> None:
        """Cancels the answer, because the client has disconnected."""
        if self.timer is not None:
            self.timer.cancel()
        if self.on_lost is not None:
            self.on_lost()


class ServerConnection(asyncio.Protocol):
    """Handles the connection of one client. While it is open, it is in `connections`."""

    def __init__(
        self, handler: Callable[[Exchange], None], connections: "set[ServerConnection]"
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._handler = handler
        self._connections = connections
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._write_blocked = False
        self._read_paused = False
        self._size = 0

    def abort(self) -> None:
        self._transport.abort()

    def notice_loss(self) -> None:
        """Handles a disconnect of the client that the event loop has not reported yet.

        The loop may report a request on another connection first, although the request came later
        than the disconnect.
        """
        client_socket = self._transport.get_extra_info("socket")
        if self._current is not None and _has_disconnected(client_socket):
            self.abort()
            self.connection_lost(None)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def finish(self, *, close: bool) -> None:
        """Ends the current exchange; closes the connection or starts the next exchange."""
        if self._current is not None:
            # The timer's callback refers to the exchange. None ends this reference cycle.
            self._current.timer = None
            self._current = None
        if close:
            self._transport.close()
        elif self._waiting:
            self.loop.call_soon(self._start_waiting)

    def _start_waiting(self) -> None:
        while (
            self._waiting
            and self._current is None
            and not self._write_blocked
            and not self._transport.is_closing()
        ):
            self._current = self._waiting.popleft()
            self._handler(self._current)
        crowded = len(self._waiting) > _MAX_PIPELINED
        if crowded != self._read_paused and not self._transport.is_closing():
            self._read_paused = crowded
            if crowded:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _refuse(self, status: int) -> None:
        if self._current is None:
            self.write(b"%b0\r\n\r\n" % _head(status, JSON, (), keep_alive=False))
        self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # it is always a TCP transport
        self.client_port: int = transport.get_extra_info("peername")[1]
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(400)
            return
        if self._size > MAX_BODY_BYTES:
            self._refuse(413)
            return
        self._start_waiting()

    def pause_writing(self) -> None:
        self._write_blocked = True

    def resume_writing(self) -> None:
        self._write_blocked = False
        self._start_waiting()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._connections.discard(self)
        self._waiting.clear()
        if self._current is not None:
            self._current.abandon()
            self._current = None

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        declared = int(self._headers.get("content-length", 0))
        if declared > MAX_BODY_BYTES:
            self._size = declared
        elif "expect" in self._headers:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= MAX_BODY_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._size > MAX_BODY_BYTES:
            return
        self._waiting.append(
            Exchange(
                self,
                self._parser.get_method().decode(),
                self._url.partition(b"?")[0].decode("latin-1"),
                self._headers,
                b"".join(self._body),
                keep_alive=self._parser.should_keep_alive(),
            )
        )
