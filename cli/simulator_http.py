"""What the simulator puts on the wire: HTTP/1.1, the two dialects' bodies, and faults in both.

httptools parses, one `Exchange` at a time per connection goes to the handler, answers are
hand-written bytes. A pipelined request waits, uncounted, until the one before it is answered.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Literal

import httptools
import orjson

Dialect = Literal["openrouter", "ollama"]
DIALECTS: tuple[Dialect, ...] = ("openrouter", "ollama")
Outcome = int | Literal["hang", "drop", "aborted"]

MAX_BODY_BYTES = 64 * 1024 * 1024
JSON = "application/json"
HTML = "text/html; charset=utf-8"
_MAX_PIPELINED = 64
_DRIP_INTERVAL_S = 0.1
_HUGE_CHARACTERS = 10_000_000


def reason(status: int) -> str:
    """The status's standard phrase, or nothing for a status that has none."""
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""


@lru_cache(maxsize=256)
def _head(status: int, content_type: str, retry_after: str | None, *, keep_alive: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason(status)}", f"Content-Type: {content_type}"]
    if retry_after is not None:
        lines.append(f"Retry-After: {retry_after}")
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "Content-Length: "]).encode()


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and the means to answer it; exactly one of the `reply` methods or `drop`."""

    connection: "Connection"
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    on_lost: Callable[[], None] | None = None
    """Called if the client goes away before the answer is written."""
    timer: asyncio.TimerHandle | None = None

    def after(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:  # noqa: ANN401 - as call_later
        """Call back later, unless the client goes away first."""
        self.timer = self.connection.loop.call_later(delay_s, callback, *args)

    def reply(
        self, status: int, body: bytes, *, content_type: str = JSON, retry_after: str | None = None
    ) -> None:
        head = _head(status, content_type, retry_after, keep_alive=self.keep_alive)
        self.connection.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        self.connection.finish(close=not self.keep_alive)

    def reply_half(self, body: bytes) -> None:
        """Promise the whole body, send half of it, close."""
        head = _head(200, JSON, None, keep_alive=self.keep_alive)
        self.connection.write(b"%b%d\r\n\r\n%b" % (head, len(body), body[: len(body) // 2]))
        self.connection.finish(close=True)

    def reply_drip(self, body: bytes, done: Callable[[], None]) -> None:
        """Send the body a byte at a time, then call `done`."""
        head = _head(200, JSON, None, keep_alive=self.keep_alive)
        self.connection.write(b"%b%d\r\n\r\n" % (head, len(body)))
        self.after(_DRIP_INTERVAL_S, self._drip, body, 0, done)

    def _drip(self, body: bytes, sent: int, done: Callable[[], None]) -> None:
        self.connection.write(body[sent : sent + 1])
        if sent + 1 < len(body):
            self.after(_DRIP_INTERVAL_S, self._drip, body, sent + 1, done)
        else:
            done()
            self.connection.finish(close=not self.keep_alive)

    def drop(self) -> None:
        """Close the connection without a byte of answer."""
        self.connection.finish(close=True)

    def lose(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.on_lost is not None:
            self.on_lost()


class Connection(asyncio.Protocol):
    """One client connection; `connections` holds it while it is open."""

    def __init__(self, handler: Callable[[Exchange], None], connections: "set[Connection]") -> None:
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

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def finish(self, *, close: bool) -> None:
        """The current exchange is over: close, or go on with the next one."""
        if self._current is not None:
            self._current.timer = None  # its callback holds the exchange: no cycle for the GC
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
            self.write(b"%b0\r\n\r\n" % _head(status, JSON, None, keep_alive=False))
        self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a TCP transport always
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
            self._current.lose()
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


class Fault(StrEnum):
    STATUS = "status"
    ERROR_OBJECT = "error-object"
    HANG = "hang"
    DROP = "drop"
    HALF = "half"
    GARBAGE = "garbage"
    HTML = "html"
    HUGE = "huge"
    DRIP = "drip"
    EMPTY_CHOICES = "empty-choices"
    NULL_CONTENT = "null-content"
    NO_USAGE = "no-usage"


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one call; with `first`, only to that many first calls of an item."""

    fault: Fault | None = None
    status: int = 200
    first: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """What the simulator reads of a request: the last message and the prompt's words."""

    dialect: Dialect
    model: str = ""
    text: str = ""
    words: int = 0

    @property
    def item(self) -> str:
        return item_of(self.text)


def item_of(text: str) -> str:
    """The name under which calls with this last message are counted."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_chat(dialect: Dialect, body: bytes) -> Chat:
    """ValueError, with what is wrong, for a body the provider would not take."""
    try:
        document = orjson.loads(body)
        texts = [_text(message["content"]) for message in document["messages"]]
        model, last = str(document["model"]), texts[-1]
        stream = document.get("stream", dialect == "ollama")  # Ollama's default is to stream
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("expected a JSON object with model and messages") from error
    if stream is not False:
        raise ValueError("only stream=false is simulated")
    return Chat(dialect, model, last, sum(len(text.split()) for text in texts))


def _text(content: str | list[dict[str, str]] | None) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


def completion(chat: Chat, fault: Fault | None, elapsed_ms: float) -> bytes:
    """The 200 body, less what the fault takes out of it."""
    content = "x" * _HUGE_CHARACTERS if fault is Fault.HUGE else f"echo: {chat.text}"
    words = len(content.split())
    message = {"role": "assistant", "content": None if fault is Fault.NULL_CONTENT else content}
    now = time.time()
    if chat.dialect == "openrouter":
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        body: dict[str, Any] = {
            "id": f"gen-{int(now)}-{chat.item}",
            "object": "chat.completion",
            "created": int(now),
            "model": chat.model,
            "provider": "Simulator",
            "choices": [] if fault is Fault.EMPTY_CHOICES else [choice],
        }
        if fault is not Fault.NO_USAGE:
            body["usage"] = {
                "prompt_tokens": chat.words,
                "completion_tokens": words,
                "total_tokens": chat.words + words,
            }
        return orjson.dumps(body)
    body = {
        "model": chat.model,
        "created_at": datetime.fromtimestamp(now, UTC),
        "done": True,
        "done_reason": "stop",
        "total_duration": int(elapsed_ms * 1e6),
        "load_duration": 0,
    }
    if fault is not Fault.EMPTY_CHOICES:
        body["message"] = message
    if fault is not Fault.NO_USAGE:
        body |= {"prompt_eval_count": chat.words, "prompt_eval_duration": 0}
        body |= {"eval_count": words, "eval_duration": int(elapsed_ms * 1e6)}
    return orjson.dumps(body, option=orjson.OPT_UTC_Z)


def error_body(dialect: Dialect, status: int, message: str) -> bytes:
    if dialect == "ollama":
        return orjson.dumps({"error": message})
    return orjson.dumps({"error": {"code": status, "message": message}})


def reply_error(
    exchange: Exchange, dialect: Dialect, status: int, message: str, retry_after: str | None
) -> None:
    """An error status in the dialect's form; `retry_after` goes on 429 and 503."""
    waits = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    body = error_body(dialect, status, message)
    exchange.reply(status, body, retry_after=retry_after if waits else None)


def respond(
    exchange: Exchange,
    chat: Chat,
    plan: Plan,
    retry_after: str | None,
    done: Callable[[Outcome], None],
) -> None:
    """Do what the plan says, then call `done`; after a hang `done` is never called."""
    outcome: Outcome = 200
    match plan.fault:
        case Fault.HANG:
            return
        case Fault.DROP:
            exchange.drop()
            outcome = "drop"
        case Fault.STATUS:
            outcome = plan.status
            message = reason(plan.status)
            if chat.dialect == "ollama" and plan.status == HTTPStatus.NOT_FOUND:
                message = f'model "{chat.model}" not found, try pulling it first'
            reply_error(exchange, chat.dialect, plan.status, message, retry_after)
        case Fault.ERROR_OBJECT:
            exchange.reply(200, error_body(chat.dialect, plan.status, reason(plan.status)))
        case Fault.GARBAGE:
            exchange.reply(200, b'{"choices": [\xff\x00')
        case Fault.HTML:
            exchange.reply(200, b"<html><body>Bad gateway</body></html>", content_type=HTML)
        case Fault.HALF:
            exchange.reply_half(completion(chat, None, plan.latency_ms or 0))
        case Fault.DRIP:
            body = completion(chat, None, plan.latency_ms or 0)
            exchange.reply_drip(body, lambda: done(200))
            return
        case fault:
            exchange.reply(200, completion(chat, fault, plan.latency_ms or 0))
    done(outcome)
