"""Sends HTTP requests to one API, checks the responses, and repeats requests that may succeed."""

import logging
import os
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx

from orchestrator_client.error_texts import refusal_text
from orchestrator_client.errors import (
    ConnectionFailed,
    InvalidConfiguration,
    RequestRejected,
    ServiceUnavailable,
)
from orchestrator_client.retry import RETRY_S, RetryBudget

DEFAULT_URL = "http://localhost:8000"
TIMEOUT_S = 60.0  # limit of each read and each write
CONNECT_TIMEOUT_S = 5.0

# The API is full or cannot reach Redis (429, 503), or a proxy cannot reach the API or waited too
# long for the API (502, 504, and Cloudflare's statuses).
_UNAVAILABLE = {429, 502, 503, 504, *range(520, 525), 530}
_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)

log = logging.getLogger("orchestrator_client")


class Connection:
    """Sends requests to one API, and repeats them while the API is unavailable.

    If the API has never been reached, a request that cannot connect is not repeated: probably the
    URL is wrong, or the API was not started. Later, the API is probably restarting.
    """

    def __init__(
        self,
        url: str | None,
        api_key: str | None,
        retry_for_s: float,
        on_retry: Callable[[str], None] | None,
    ) -> None:
        """Raises InvalidConfiguration if the URL or the API key cannot be used."""
        key = (api_key or os.environ.get("ORCHESTRATOR_API_KEY") or "").strip()
        self.url = url or os.environ.get("ORCHESTRATOR_URL") or DEFAULT_URL
        _check_configuration(self.url, key)
        self._key = key
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        self._retry_for_s = retry_for_s
        self._on_retry = on_retry or self._log_retry
        self._was_reached = False

    async def close(self) -> None:
        await self._http.aclose()

    def retry_budget(self) -> RetryBudget:
        return RetryBudget(self._retry_for_s, self._on_retry)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Callable[[], AsyncIterator[bytes]] | None = None,
        **request: Any,  # noqa: ANN401 — arguments of httpx
    ) -> httpx.Response:
        """Sends a request, and repeats it while the API is unavailable, until the retry time ends.

        Returns a response with status 2xx. Raises OrchestratorError.

        body: function that returns the request's body; it is called once per attempt.
        """
        budget = self.retry_budget()
        while True:
            if body:
                request["content"] = body()
            try:
                return await self.attempt(method, path, **request)
            except (ConnectionFailed, ServiceUnavailable) as error:
                await budget.wait(error)

    async def attempt(
        self,
        method: str,
        path: str,
        **request: Any,  # noqa: ANN401 — arguments of httpx
    ) -> httpx.Response:
        """Returns a response with status 2xx, after one attempt. Raises OrchestratorError."""
        with self._translated_errors():
            response = await self._http.request(method, path, **request)
        await self._raise_for_status(response)
        return response

    @asynccontextmanager
    async def stream(
        self, path: str, params: dict[str, str]
    ) -> AsyncGenerator[httpx.Response, None]:
        """Yields a response with status 2xx before its body is read. Raises OrchestratorError.

        Makes only one attempt.
        """
        with self._translated_errors():
            async with self._http.stream("GET", path, params=params) as response:
                await self._raise_for_status(response)
                yield response

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except _NOT_CONNECTED as error:
            if self._was_reached:
                raise self._connection_failed(error, "", RETRY_S) from error
            advice = " Start it with `orchestrator up`, or set ORCHESTRATOR_URL."
            raise self._connection_failed(error, advice, None) from error
        except httpx.TransportError as error:
            self._was_reached = True  # the connection failed after it had been opened
            raise self._connection_failed(error, "", RETRY_S) from error

    def _connection_failed(
        self, error: Exception, advice: str, retry_after_s: float | None
    ) -> ConnectionFailed:
        return ConnectionFailed(
            f"Can't reach the API at {self.url} ({_reason(error)}).{advice}",
            url=self.url,
            retry_after_s=retry_after_s,
        )

    async def _raise_for_status(self, response: httpx.Response) -> None:
        self._was_reached = True
        if response.is_success:
            return
        await response.aread()
        url, code = str(response.url), response.status_code
        detail = refusal_text(response, has_key=bool(self._key))
        if code in _UNAVAILABLE:
            after = response.headers.get("retry-after", "")
            retry_after_s = float(after) if after.isdecimal() else RETRY_S
            raise ServiceUnavailable(detail, url=url, status_code=code, retry_after_s=retry_after_s)
        raise RequestRejected(detail, url=url, status_code=code)

    def _log_retry(self, reason: str) -> None:
        log.warning("%s. Retrying for up to %.0f s.", reason.rstrip("."), self._retry_for_s)


def _check_configuration(url: str, key: str) -> None:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL()
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise InvalidConfiguration(
            f"The API's URL must begin with http:// or https:// and name a host, not {url!r}.",
            url=url,
        )
    if not (key.isascii() and key.isprintable()):
        raise InvalidConfiguration(
            "The API key must contain only printable ASCII characters.", url=url
        )


def _reason(error: BaseException) -> str:
    """Returns the operating system's reason, such as "Connection refused".

    If the operating system gives no reason, returns the text or the class of the error.
    """
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, BaseExceptionGroup):  # the group has one error per address of the host
            cause = cause.exceptions[0]
        if isinstance(cause, ssl.SSLError | socket.gaierror) and cause.strerror:
            return cause.strerror
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
