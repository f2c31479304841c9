"""One attempt at one provider: all network I/O with providers is here. It never sleeps."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from shared.models import ChatRequest, ErrorCode
from shared.providers import PROVIDERS
from shared.settings import ProviderSettings
from worker.providers.dialect import Completion, Dialect, ErrorInBody
from worker.providers.errors import ProviderError, RateLimited, Rejected, Transient
from worker.providers.ollama import OLLAMA
from worker.providers.openai import OPENAI
from worker.providers.redaction import redact

MAX_RESPONSE_BYTES = 4 * 1024 * 1024  # 32,000 tokens are some 200 KB
KEEP_ALIVE_S = 60

_DIALECTS: Mapping[str, Dialect] = {"openai": OPENAI, "ollama": OLLAMA}
_REJECTED_AS = {
    401: ErrorCode.UNAUTHORIZED,
    402: ErrorCode.PAYMENT_REQUIRED,
    403: ErrorCode.UNAUTHORIZED,
    404: ErrorCode.MODEL_NOT_FOUND,
}
_RETRIED = {408, 409, 425}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how one provider is called."""

    provider: str
    url: httpx.URL
    headers: httpx.Headers
    dialect: Dialect
    key: str | None


def endpoint(provider: str, settings: ProviderSettings) -> Endpoint | None:
    """None if the provider's key is required and not set."""
    row = PROVIDERS[provider]
    key = settings.api_key.get_secret_value().strip() if settings.api_key else None
    if row.key_required and key is None:
        return None
    dialect = _DIALECTS[row.dialect]
    headers = {
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "Content-Type": "application/json",
        "User-Agent": "llm-batch-orchestrator",
    }
    return Endpoint(
        provider,
        httpx.URL((settings.base_url or row.base_url) + dialect.path),
        httpx.Headers(headers | dialect.headers(key, settings.http_referer)),
        dialect,
        key,
    )


def http_client(max_connections: int) -> httpx.AsyncBaseTransport:
    """httpx's interface over aiohttp's pool, for httpx's own costs 3.5 ms of CPU a call at 100 at
    once. Only the transport: cookies and redirects, which a client adds, are not wanted here, and
    the environment's proxies would cost aiohttp a look at netrc for each call."""

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=KEEP_ALIVE_S)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return AiohttpTransport(client=session)


async def call(
    client: httpx.AsyncBaseTransport, endpoint: Endpoint, chat: ChatRequest, *, timeout_s: float
) -> Completion:
    """`timeout_s` bounds the whole exchange, however slowly it drips. Raises ProviderError."""
    name = endpoint.provider
    try:
        async with asyncio.timeout(timeout_s):
            response, body = await _exchange(client, endpoint, chat)
    except TimeoutError:
        raise Transient(ErrorCode.TIMEOUT, f"{name} did not answer in {timeout_s:g} s") from None
    except (httpx.DecodingError, UnicodeError):
        raise Transient(ErrorCode.BAD_RESPONSE, f"{name} sent a broken body") from None
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        # aiohttp's exception says what happened; httpx-aiohttp calls most of them a timeout.
        reason = type(error.__cause__ or error).__name__
        raise Transient(
            ErrorCode.CONNECTION_ERROR, f"the connection to {name} failed ({reason})"
        ) from None

    if not response.is_success:
        text = endpoint.dialect.error_text(body)
        raise _failure(endpoint, chat, response.status_code, text, response.headers)
    try:
        return endpoint.dialect.decode(body)
    except ErrorInBody as error:
        raise _failure(endpoint, chat, error.status_code, error.message, response.headers) from None
    except ValueError:  # pydantic's ValidationError is one; its text would repeat the body
        raise Transient(
            ErrorCode.BAD_RESPONSE, f"{name} answered something that is no chat completion"
        ) from None


async def _exchange(
    client: httpx.AsyncBaseTransport, endpoint: Endpoint, chat: ChatRequest
) -> tuple[httpx.Response, bytes]:
    # Held for as long as the call goes on: a copy of the right size (what orjson returns takes
    # 4 KB), and the same headers for all (as an argument they would be decoded and copied).
    content = bytes(memoryview(orjson.dumps(endpoint.dialect.encode(chat))))
    request = httpx.Request("POST", endpoint.url, content=content)
    request.headers = endpoint.headers
    async with aclosing(await client.handle_async_request(request)) as response:
        if "," in response.headers.get("content-encoding", ""):
            # Each layer may multiply by a thousand what one chunk unpacks to.
            raise Transient(
                ErrorCode.BAD_RESPONSE, f"{endpoint.provider} sent a body encoded more than once"
            )
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                raise Transient(
                    ErrorCode.BAD_RESPONSE,
                    f"{endpoint.provider} sent more than {MAX_RESPONSE_BYTES} bytes",
                )
        return response, bytes(body)


def _failure(
    endpoint: Endpoint, chat: ChatRequest, status: int, text: str | None, headers: httpx.Headers
) -> ProviderError:
    message = f"{endpoint.provider} answered {status}"
    if text:
        secrets = [endpoint.key or "", *(entry["content"] for entry in chat["messages"])]
        message += f": {redact(secrets, text)}"
    wait_s = retry_after_s(headers, datetime.now(UTC))
    if status == httpx.codes.TOO_MANY_REQUESTS or (status in {503, 529} and wait_s is not None):
        return RateLimited(message, retry_after_s=wait_s, status_code=status)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _RETRIED:
        timed_out = status in {408, 504}
        return Transient(ErrorCode.TIMEOUT if timed_out else ErrorCode.PROVIDER_ERROR, message)
    return Rejected(_REJECTED_AS.get(status, ErrorCode.INVALID_REQUEST), message)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Retry-After as seconds or as a date (RFC 9110, 10.2.3), against the sender's Date if it is
    given; None if there is none that can be read."""
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
