"""Adapts uvicorn's protocol classes to clients and proxies that uvicorn does not expect.

uvicorn chooses its protocol class before it imports the application, and has no parameter for these
changes. `adapt_uvicorn` therefore makes uvicorn's classes create instances of subclasses.
`api.main` calls the function, so that the changes apply however uvicorn is started.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import h11
import httptools
from uvicorn._types import ASGI3Application, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.middleware.path_prefix import PathPrefixMiddleware
from api.server.reading_limits import (
    HEAD_TOO_LARGE,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    TOO_MANY_HEADERS,
    TOO_MANY_PIPELINED,
    ReadingLimits,
    ReadingState,
)

HEAD_SLICE_BYTES = 16 * 1024  # bytes of a head between two checks of its limits
MAX_WAITING_BYTES = 64 * 1024  # limit of the bodies of the requests that wait in a connection
UVICORN_KEEP_ALIVE_S = 5  # uvicorn's default for --timeout-keep-alive


def adapt_uvicorn(keep_alive_s: float) -> None:
    """Makes uvicorn apply `ReadingLimits`, ignore upgrades, and send no chunk sizes with HTTP/1.0.

    uvicorn then keeps idle connections for `keep_alive_s`, unless it was started with a
    `--timeout-keep-alive` that is not its default. If uvicorn was started with `--root-path`, it
    also adds this prefix to Location headers.
    """
    _Adapted.keep_alive_s = keep_alive_s
    for original, adapted in ((HttpToolsProtocol, _HttpTools), (H11Protocol, _H11)):
        original.__new__ = _creator(adapted)  # type: ignore[method-assign]


def _creator(adapted: type[asyncio.Protocol]) -> Any:  # noqa: ANN401 — the type of `__new__`
    def new(_class: type, *_: object, **__: object) -> asyncio.Protocol:
        return object.__new__(adapted)

    return new


class _Adapted(ReadingLimits):
    keep_alive_s: float
    timeout_keep_alive: float
    app: Any
    root_path: str

    def __init__(self, config: Config, *args: Any, **options: Any) -> None:  # noqa: ANN401 — uvicorn's
        super().__init__(config, *args, **options)  # type: ignore[call-arg]
        if config.timeout_keep_alive == UVICORN_KEEP_ALIVE_S:
            self.timeout_keep_alive = self.keep_alive_s
        if self.root_path:
            self.app = PathPrefixMiddleware(self.app, self.root_path)
            self.root_path = ""  # the middleware adds the prefix to the path


class _H11(_Adapted, H11Protocol):  # type: ignore[misc]
    """Adapts the class of `--http h11`, which already ignores upgrades and knows HTTP/1.0.

    h11 itself limits the size of a head to 64 KiB, too.
    """

    def data_received(self, data: bytes) -> None:
        if self.request.is_refused:
            return
        if self.request.reading is ReadingState.NOTHING:
            self._begin(ReadingState.HEAD)
        self.request.has_begun = True
        super().data_received(data)
        if self.request.is_refused or self.transport.is_closing():
            return
        reading = _H11_READING.get(self.conn.their_state, ReadingState.NOTHING)
        if reading is ReadingState.HEAD and self.cycle and not self.conn.trailing_data[0]:
            reading = ReadingState.NOTHING
        if reading is not self.request.reading:
            self._begin(reading)
        self._received(len(data), 0)


_H11_READING = {h11.IDLE: ReadingState.HEAD, h11.SEND_BODY: ReadingState.BODY}


class _Waiting(list[Any]):
    """Replaces uvicorn's deque of pipelined requests, because an empty deque takes 600 bytes."""

    __slots__ = ()

    def appendleft(self, entry: object) -> None:
        self.insert(0, entry)


class _HttpTools(_Adapted, HttpToolsProtocol):  # type: ignore[misc]
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.pipeline = _Waiting()  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parses the data, and applies the limits.

        Reads a request that asks for an upgrade as if it did not ask (RFC 9110, 7.8). Java's
        HttpClient and `curl --http2` ask for h2c. The parser stops after the headers of such a
        request, even if a body follows. A new parser then reads the request without the header
        Upgrade.
        """
        if self.request.is_refused:
            return
        if self.request.reading is not ReadingState.BODY and len(data) > HEAD_SLICE_BYTES:
            # A head that is too large must be refused before the whole head is parsed.
            self.data_received(data[:HEAD_SLICE_BYTES])
            self.data_received(data[HEAD_SLICE_BYTES:])
            return
        self._unset_keepalive_if_required()
        if self.request.reading is ReadingState.NOTHING:
            self._begin(ReadingState.HEAD)
        self.request.has_begun = True
        self.request.chunk_bytes = self.request.head_chunk_bytes = len(data)
        self._feed(data)
        if self.request.reading is not ReadingState.NOTHING and not self.request.is_refused:
            is_head = self.request.reading is ReadingState.HEAD
            size = self.request.head_chunk_bytes if is_head else len(data)
            self._received(size, len(self.headers or ()))
        elif self.request.counted:
            self._count_head(0)
        if self.request.is_refused:  # the connection may stay open for `LINGER_S`
            self.parser, self.scope, self.headers, self.url = None, {}, [], b""

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserError:
                if self.request.is_refused:
                    return
                message = "Invalid HTTP request received."
                self.logger.warning(message)
                self.send_400_response(message)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    data = self._head_without_upgrade() + data[upgrade.args[0] :]
                    self.parser = httptools.HttpRequestParser(self)
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                    continue
            return

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self.request.reading is not ReadingState.HEAD:
            # The chunk has begun with an earlier request.
            self._begin(ReadingState.HEAD)
            self.request.began_inside = True
            self.request.head_chunk_bytes = 0

    def on_headers_complete(self) -> None:
        """Raises _Refused, which ends the parsing, if the request is refused.

        It is refused if its head is too large, if it has too many headers, or if too many requests
        of the connection wait.
        """
        may_be_large = self.request.size + self.request.chunk_bytes > MAX_HEAD_BYTES
        if (may_be_large or self.request.began_inside) and self._head_bytes() > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, HEAD_TOO_LARGE)
        elif len(self.headers) > MAX_HEADERS:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_MANY_HEADERS)
        elif len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, TOO_MANY_PIPELINED)
        if self.request.is_refused:
            raise _Refused
        self._begin(ReadingState.BODY)
        super().on_headers_complete()
        self._keep_reading()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.pipeline:
            self._keep_reading()

    def on_message_complete(self) -> None:
        self.request.reading = ReadingState.NOTHING
        super().on_message_complete()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _keep_reading(self) -> None:
        """Continues to read while requests wait for an earlier response.

        uvicorn would stop reading, and not notice that the client has disconnected. Reading pauses
        while the bodies of the waiting requests have more than `MAX_WAITING_BYTES`.
        """
        if self.pipeline:
            if sum(len(cycle.body) for cycle, _ in self.pipeline) > MAX_WAITING_BYTES:
                self.flow.pause_reading()
            else:
                self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Marks the running request as disconnected, too. uvicorn marks only the latest request."""
        running = self.request.running
        if running is not None and running is not self.cycle and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def _is_pipelined(self) -> bool:
        return bool(self.pipeline)

    def _should_upgrade(self) -> bool:
        """Returns whether the request at which the parser has stopped has the header Upgrade.

        The parser stops at such a request and at CONNECT. uvicorn starts no request for which this
        function returns True.
        """
        return self.parser.get_method() != b"CONNECT"

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if cycle.scope["http_version"] == "1.0":
            cycle.__class__ = _UnchunkedCycle
        self.request.running = cycle
        super()._start_asgi_task(cycle, app)


class _Refused(Exception):
    """The request was refused while the parser read its head."""


class _UnchunkedCycle(RequestResponseCycle):
    """Sends a body of unknown length without chunk sizes, because HTTP/1.0 has no chunks.

    The end of the connection is the end of the body (RFC 9112, 6.3).
    """

    ends_with_connection = False

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            if all(name.lower() != b"content-length" for name, _ in message["headers"]):
                self.ends_with_connection = True
                self.chunked_encoding = False
        elif message["type"] == "http.response.body" and self.ends_with_connection:
            # uvicorn compares this number with the length of the body: 0 must be left at the end.
            more = message.get("more_body", False)
            self.expected_content_length = len(message.get("body", b"")) + more
        await super().send(message)
