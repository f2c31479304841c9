"""Makes calls to providers. All network I/O with providers is in this module.

No function in this module sleeps or retries, because the queue decides when an item runs again.
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from shared.dialects.dialect import Answer, Codec, ErrorInBody, NoAnswer, Unfinished
from shared.dialects.reason import reason
from shared.models import ErrorCode
from shared.queue.item_request import ItemRequest
from worker.providers.endpoint import Endpoint, encode
from worker.providers.errors import ProviderError, RateLimited, Rejected, Transient
from worker.providers.redaction import redact

MAX_RESPONSE_BYTES = 4 * 1024 * 1024  # an answer of 32,000 tokens is about 200 KB
KEEP_ALIVE_S = 60

_REJECTION_CODES = {  # error codes by HTTP status; the code of any other status is invalid_request
    401: ErrorCode.UNAUTHORIZED,
    402: ErrorCode.PAYMENT_REQUIRED,
    403: ErrorCode.UNAUTHORIZED,
    404: ErrorCode.MODEL_NOT_FOUND,
}
_TRANSIENT_STATUSES = {408, 409, 425}  # statuses that are transient, in addition to 5xx
_TIMEOUT_STATUSES = {408, 504}


def http_client(max_connections: int) -> httpx.AsyncBaseTransport:
    """Returns httpx's transport over aiohttp's connection pool.

    httpx's own pool needs 3.5 ms of CPU per call while 100 calls run. The result is a transport and
    not a client, because a client would keep cookies and follow redirects. Proxies from the
    environment are not used, because aiohttp would then read netrc for every call.
    """

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=KEEP_ALIVE_S)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return AiohttpTransport(client=session)


async def call(
    client: httpx.AsyncBaseTransport, endpoint: Endpoint, request: ItemRequest, *, timeout_s: float
) -> Answer:
    """Makes one call and returns the provider's answer. Raises ProviderError.

    `timeout_s` limits the time of the whole call, even if the answer arrives one byte at a time.
    """
    name = endpoint.provider
    codec = endpoint.codec(request)
    try:
        async with asyncio.timeout(timeout_s):
            response, body = await _exchange(client, endpoint, codec, request)
    except TimeoutError:
        raise Transient(ErrorCode.TIMEOUT, f"{name} did not answer in {timeout_s:g} s") from None
    except UnicodeError:
        raise Transient(
            ErrorCode.BAD_RESPONSE, f"{name} sent a status line or headers that are not text"
        ) from None
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        # The cause is aiohttp's exception, which says what happened. httpx-aiohttp turns most of
        # aiohttp's exceptions into a timeout.
        reason = type(error.__cause__ or error).__name__
        raise Transient(
            ErrorCode.CONNECTION_ERROR, f"the connection to {name} failed ({reason})"
        ) from None

    if not response.is_success:
        text = _error_text(body)
        raise _error(endpoint, request, response.status_code, text, response.headers)
    try:
        return codec.decode(orjson.loads(body))
    except ErrorInBody as error:
        raise _error(
            endpoint, request, error.status_code, error.message, response.headers
        ) from None
    except Unfinished as error:
        raise Transient(
            ErrorCode.PROVIDER_ERROR,
            f"{name} did not finish its answer ({error.evidence})",
            status_code=response.status_code,
        ) from None
    except NoAnswer:
        raise Rejected(
            ErrorCode.BAD_RESPONSE,
            f"{name} answered with JSON that contains no answer",
            status_code=response.status_code,
        ) from None
    except ValueError:
        raise _bad_response(response, f"{name} answered with something that is not JSON") from None


async def _exchange(
    client: httpx.AsyncBaseTransport, endpoint: Endpoint, codec: Codec, item: ItemRequest
) -> tuple[httpx.Response, bytes]:
    # The body and the headers stay in memory while the call runs. The body is copied to its real
    # size, because the bytes that orjson returns occupy at least 4 KB. The headers are set after
    # construction, because httpx would decode and copy an argument instead of sharing the headers.
    content = bytes(memoryview(encode(codec, item)))
    request = httpx.Request("POST", endpoint.url(codec, item["model"]), content=content)
    request.headers = endpoint.headers
    async with aclosing(await client.handle_async_request(request)) as response:
        return response, await _read_body(endpoint.provider, response)


async def _read_body(provider: str, response: httpx.Response) -> bytes:
    if "," in response.headers.get("content-encoding", ""):
        # Each encoding can multiply the size of a decoded chunk by a thousand.
        raise _bad_response(response, f"{provider} sent a body that is encoded more than once")
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                raise _bad_response(
                    response, f"{provider} sent more than {MAX_RESPONSE_BYTES} bytes"
                )
    except httpx.DecodingError:
        raise _bad_response(response, f"{provider} sent a body that cannot be decoded") from None
    return bytes(body)


def _bad_response(response: httpx.Response, message: str) -> Transient:
    return Transient(ErrorCode.BAD_RESPONSE, message, status_code=response.status_code)


def _error(
    endpoint: Endpoint, request: ItemRequest, status: int, text: str | None, headers: httpx.Headers
) -> ProviderError:
    """Returns the exception for a response with an error status.

    `text` is the error message in the body of the response, if the body has one.
    """
    message = f"{endpoint.provider} answered {status}"
    if text:
        secrets = [endpoint.key or "", *_texts(request)]
        message += f": {redact(secrets, text)}"
    wait_s = retry_after_s(headers, datetime.now(UTC))
    if status == httpx.codes.TOO_MANY_REQUESTS or (status in {503, 529} and wait_s is not None):
        return RateLimited(message, retry_after_s=wait_s, status_code=status)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _TRANSIENT_STATUSES:
        code = ErrorCode.TIMEOUT if status in _TIMEOUT_STATUSES else ErrorCode.PROVIDER_ERROR
        return Transient(code, message, status_code=status)
    code = _REJECTION_CODES.get(status, ErrorCode.INVALID_REQUEST)
    return Rejected(code, message, status_code=status)


def _error_text(body: bytes) -> str | None:
    """Returns the error message in the body of an error response, or None."""
    try:
        return reason(orjson.loads(body)) or None
    except ValueError:
        return None


def _texts(request: ItemRequest) -> list[str]:
    """Returns the texts of the request that must not appear in an error."""
    return [str(message["content"]) for message in request.get("chat", {}).get("messages", ())]


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Returns the seconds to wait according to Retry-After (RFC 9110, 10.2.3).

    The header contains seconds or a date. A date is compared with the Date header, or with `now` if
    there is no Date header. Returns None if Retry-After is missing or invalid.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return seconds if 0 <= seconds < float("inf") else None
    until, sent = _http_date(value), _http_date(headers.get("date", ""))
    return max(0.0, (until - (sent or now)).total_seconds()) if until else None


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
