"""Makes calls to providers. connections.py sends the requests.

A call that failed is not repeated here, because the queue decides when an item runs again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import aiohttp
import httpx
import orjson

from shared.dialects.dialect import Answer, Codec, ErrorInBody, NoAnswer, Unfinished, Untranslatable
from shared.dialects.json_text import one_line
from shared.dialects.refusal_reason import names, reason
from shared.event_loop_yield import LARGE_BYTES
from shared.json_scanner import TooManyParts
from shared.memory_budget import Reservation
from shared.models import ErrorCode
from shared.queue.item_request import ItemRequest
from shared.queue.verdict import Verdict
from worker.providers.answer_limits import stream_too_large, too_many_parts
from worker.providers.connections import cause, could_not_connect, send
from worker.providers.endpoint import Endpoint, encode
from worker.providers.errors import ProviderError
from worker.providers.redaction import redact, texts
from worker.providers.response_body import (
    BodyReading,
    ParsedBody,
    bad_response,
    parse,
    parse_large,
    read_body,
    refuse_encodings,
)
from worker.providers.stream_body import Emit, StreamBody, StreamTooLarge, is_event_stream
from worker.providers.verdicts import judge

_CHUNK_BYTES = 256 * 1024


async def call(
    client: httpx.AsyncBaseTransport,
    endpoint: Endpoint,
    request: ItemRequest,
    *,
    timeout_s: float,
    emit: Emit | None = None,
    on_headers: Callable[[Mapping[str, str]], None] | None = None,
) -> Answer:
    """Makes one call and returns the provider's answer. Raises ProviderError.

    timeout_s: time limit of the whole call, even if the answer arrives one byte at a time. In a
        stream, the time starts again with each event. The wait for memory is not included.
    emit: gets the encoded events of a streamed answer as they arrive. If the provider does
        not stream, `emit` gets nothing, and the answer is still returned.
    on_headers: gets the headers of a response with any status, after the body was read.
    """
    with endpoint.memory.reservation() as memory:
        return await _call(client, endpoint, request, memory, timeout_s, emit, on_headers)


async def _call(
    client: httpx.AsyncBaseTransport,
    endpoint: Endpoint,
    request: ItemRequest,
    memory: Reservation,
    timeout_s: float,
    emit: Emit | None,
    on_headers: Callable[[Mapping[str, str]], None] | None,
) -> Answer:
    name = endpoint.provider
    codec = endpoint.codec(request)
    if codec is None:
        raise _invalid(f"{name} does not support {request['operation']}")
    try:
        async with asyncio.timeout(timeout_s) as limit:
            stream = None
            if emit is not None and codec.stream is not None:
                stream = StreamBody(codec.stream(request["stream"]), emit, limit, timeout_s, memory)
            reading = BodyReading(memory, limit)
            response, body = await _exchange(client, endpoint, codec, request, stream, reading)
    except Untranslatable as error:
        # The API that accepted the item has another dialect for the provider.
        raise _invalid(f"{name} cannot take {error}") from None
    except TimeoutError:
        raise ProviderError(
            Verdict.TRANSIENT, ErrorCode.TIMEOUT, f"{name} did not answer in {timeout_s:g} s"
        ) from None
    except UnicodeError:
        raise ProviderError(
            Verdict.TRANSIENT,
            ErrorCode.BAD_RESPONSE,
            f"{name} sent a status line or headers that are not text",
        ) from None
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        raise ProviderError(
            Verdict.UNREACHABLE if could_not_connect(error) else Verdict.TRANSIENT,
            ErrorCode.CONNECTION_ERROR,
            f"the connection to {name} failed ({type(cause(error)).__name__})",
        ) from None
    if on_headers is not None:
        on_headers(response.headers)
    try:
        parsed = await parse_large(body) if len(body) > LARGE_BYTES else parse(body)
    except TooManyParts:
        raise too_many_parts(response, endpoint) from None
    if not response.is_success:
        reported = _error(response, parsed, body)
        raise _refusal(endpoint, request, response.status_code, response.headers, reported)
    return _answer(endpoint, request, codec, response, parsed)


def _answer(
    endpoint: Endpoint,
    request: ItemRequest,
    codec: Codec,
    response: httpx.Response,
    parsed: ParsedBody,
) -> Answer:
    """Returns the answer in a successful response (2xx). Raises ProviderError."""
    try:
        if isinstance(parsed, ValueError):
            raise parsed
        value, text = parsed
        answer, converted = codec.read(value)
        if converted is not value and "chat" not in request:
            text = orjson.dumps({"created": int(time.time()), **converted})
    except _WRONG_BODY as error:
        raise _wrong_body(endpoint, request, response, error) from None
    if "chat" in request:
        return answer
    answer.body = one_line(text)
    answer.message = answer.choices = answer.logprobs = None  # the body has them
    return answer


# orjson raises JSONEncodeError if values are nested more than 254 levels deep.
_WRONG_BODY = (ErrorInBody, Unfinished, NoAnswer, ValueError, orjson.JSONEncodeError)


def _wrong_body(
    endpoint: Endpoint, request: ItemRequest, response: httpx.Response, error: Exception
) -> ProviderError:
    """Returns the error for a successful response (2xx) whose body contains no answer."""
    name, status = endpoint.provider, response.status_code
    match error:
        case ErrorInBody():
            return _refusal(endpoint, request, error.status_code, response.headers, error.error)
        case Unfinished():
            return ProviderError(
                Verdict.UNFINISHED,
                ErrorCode.PROVIDER_ERROR,
                f"{name} did not finish its answer ({error.evidence})",
                status_code=status,
            )
        case NoAnswer():
            return ProviderError(
                Verdict.REJECTED,
                ErrorCode.BAD_RESPONSE,
                f"{name} answered with JSON that contains no answer",
                status_code=status,
            )
    return bad_response(response, f"{name} answered with something that is not JSON")


async def _exchange(
    client: httpx.AsyncBaseTransport,
    endpoint: Endpoint,
    codec: Codec,
    item: ItemRequest,
    stream: StreamBody | None,
    reading: BodyReading,
) -> tuple[httpx.Response, bytes]:
    # The body and the headers stay in memory while the call runs. The body is copied to its real
    # size, because the bytes that orjson returns occupy at least 4 KB. The headers are set after
    # construction, because httpx would decode and copy an argument instead of sharing the headers.
    # The body is a stream, because httpx would make headers for `content` that are not used.
    content = bytes(memoryview(encode(endpoint.row, codec, item)))
    url, headers = endpoint.url(codec, item["model"]), endpoint.call_headers(codec)
    if len(content) > _CHUNK_BYTES:
        request = httpx.Request("POST", url, stream=_Chunks(content))
        request.headers = httpx.Headers([*headers.raw, (b"Content-Length", b"%d" % len(content))])
    else:
        request = httpx.Request("POST", url, stream=httpx.ByteStream(content))
        request.read()
        request.headers = headers
    async with aclosing(await send(client, request)) as response:
        refuse_encodings(endpoint.provider, response)
        if stream is None or not (response.is_success and is_event_stream(response)):
            return response, await read_body(endpoint, response, reading)
        try:
            return response, await stream.read(response)
        except StreamTooLarge:
            raise stream_too_large(response, endpoint) from None
        except _WRONG_BODY as error:
            raise _wrong_body(endpoint, item, response, error) from None


class _Chunks(httpx.AsyncByteStream):
    """Sends a large body in chunks, because aiohttp would write the whole body in one step."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), _CHUNK_BYTES):
            yield self._content[start : start + _CHUNK_BYTES]


def _invalid(message: str) -> ProviderError:
    return ProviderError(Verdict.REJECTED, ErrorCode.INVALID_REQUEST, message)


def _error(response: httpx.Response, parsed: ParsedBody, body: bytes) -> Any:  # noqa: ANN401 — JSON
    """Returns the JSON of an error response, or its text if it is text/plain; otherwise None."""
    if not isinstance(parsed, ValueError):
        return parsed[0]
    is_text = response.headers.get("content-type", "").startswith("text/plain")
    return body.decode(errors="replace") if is_text else None


def _refusal(
    endpoint: Endpoint,
    request: ItemRequest,
    status: int,
    headers: Mapping[str, str],
    error: object,
) -> ProviderError:
    text = reason(error)
    shown = redact([*endpoint.keys, *texts(request)], text) if text else ""
    found = judge(status, headers, error, safe_text=shown, now=datetime.now(UTC))
    return ProviderError(
        found.verdict,
        found.code,
        f"{endpoint.provider} answered {status}" + (f": {shown}" if shown else ""),
        status_code=status,
        wait_s=found.wait_s,
        covers_account=found.covers_account,
        names=names(error),
    )
