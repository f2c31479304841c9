"""Keeps the connections to providers, and sends requests over these connections.

A provider may close an idle connection at the moment at which a request is sent on it. The provider
has not read such a request, so the request is immediately sent once more, as a part of the same
attempt.
"""

import asyncio
import time
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from httpx_aiohttp import AiohttpTransport

KEEP_ALIVE_S = 60
CONNECT_TIMEOUT_S = 10.0  # generous, because a busy worker needs time to notice the connection
MAX_RESPONSES = 100  # limit of the responses on a connection that were not read yet
_STALE_S = 2.0  # if a connection breaks later than this, it was open when the request was sent
# Exceptions for a connection that could not be established, including failures of DNS and TLS
_NOT_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientSSLError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
)
# Whether the connection of the last request of this task had carried another request before
_reused: ContextVar[bool] = ContextVar("reused", default=False)


def http_client(max_connections: int) -> httpx.AsyncBaseTransport:
    """Returns a transport for httpx's requests that uses aiohttp's connection pool.

    httpx's own pool needs 3.5 ms of CPU per call while 100 calls run. The result is a transport and
    not a client, because a client would keep cookies and follow redirects. Proxies from the
    environment are not used, because aiohttp would then read netrc for every call.
    """

    def session() -> aiohttp.ClientSession:
        connector = _Connector(limit=max_connections, keepalive_timeout=KEEP_ALIVE_S)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return AiohttpTransport(client=session)


class _Protocol(ResponseHandler):
    """Aborts a connection that has more than MAX_RESPONSES unread responses.

    A server may send informational responses before its response (RFC 9110, 15.2). aiohttp parses
    all responses in the received data before another asyncio task runs. If there were very many,
    leases would expire meanwhile.
    """

    def feed_data(self, data: Any, size: int = 0) -> None:  # noqa: ANN401 — aiohttp's own types
        if self.transport is None:  # aborted: further data is ignored
            return
        super().feed_data(data, size)
        if len(self) > MAX_RESPONSES:
            self.abort()
            self.set_exception(aiohttp.ClientConnectionError("too many informational responses"))


class _Connector(aiohttp.TCPConnector):
    """Opens connections with `_Protocol`, and sets `_reused` for each request."""

    def __init__(self, *, limit: int, keepalive_timeout: float) -> None:
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout)
        protocol: type[ResponseHandler] = _Protocol
        self._factory = partial(protocol, loop=asyncio.get_running_loop())
        self._used: WeakSet[object] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 — the base class passes it
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        _reused.set(connection.protocol in self._used)
        self._used.add(connection.protocol)
        return connection


async def send(client: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """Returns the response, whose body is not read yet.

    Sends the request a second time if the connection had been used before, and the provider closed
    it within `_STALE_S` without a response. Raises httpx.HTTPError and aiohttp.ClientError.
    """
    request.extensions["timeout"] = {"connect": CONNECT_TIMEOUT_S}
    started = time.monotonic()
    try:
        return await client.handle_async_request(request)
    except (httpx.HTTPError, aiohttp.ClientError) as error:
        is_late = time.monotonic() - started > _STALE_S
        if is_late or not _reused.get() or not _closed_before_response(cause(error)):
            raise
    return await client.handle_async_request(request)


def cause(error: BaseException) -> BaseException:
    """Returns the exception of aiohttp behind `error`, or `error` if there is none.

    httpx-aiohttp turns every connection error of aiohttp into a time-out, so only aiohttp's
    exception says what happened.
    """
    return error.__cause__ or error


def could_not_connect(error: BaseException) -> bool:
    return isinstance(cause(error), _NOT_CONNECTED)


def _closed_before_response(error: BaseException) -> bool:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # otherwise it has the part that arrived
    return isinstance(error, aiohttp.ClientOSError) and not isinstance(error, _NOT_CONNECTED)
