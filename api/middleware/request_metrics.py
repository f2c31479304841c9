"""Gives each request an id, for the log and for the client, and measures the response time."""

from collections.abc import Awaitable
from time import perf_counter
from uuid import uuid4

from prometheus_client import CollectorRegistry, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

REQUEST_ID = "X-Request-ID"
MAX_REQUEST_ID = 64  # characters
# The buckets that OpenTelemetry's conventions advise for http.server.request.duration.
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
ROUTE = "route"  # key in the ASGI scope that the router sets when it has found the route
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}


class RequestMetricsMiddleware:
    """Measures the time to the start of the response, and adds the request's id to the response.

    The id is the client's X-Request-ID if this header has at most `MAX_REQUEST_ID` printable ASCII
    characters and no spaces. Otherwise the id is new.
    The measurement ends at the start of the response, because a stream may last for hours and must
    not keep a frame of this middleware in memory.
    """

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._duration = Histogram(
            "http_server_request_duration_seconds",
            "Time to the start of the response, by route.",
            ("http_request_method", "http_route", "http_response_status_code"),
            buckets=BUCKETS_S,
            registry=registry,
        )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        started = perf_counter()
        request_id = _valid(Headers(scope=scope).get(REQUEST_ID, "")) or uuid4().hex
        # The binding belongs to this asyncio task, which handles only this request.
        bind_contextvars(request=request_id)

        async def observe_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
                method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
                route = getattr(scope.get(ROUTE), "path", "")
                labels = (method, route, str(message["status"]))
                self._duration.labels(*labels).observe(perf_counter() - started)
            await send(message)

        return self._app(scope, receive, observe_and_send)


def _valid(request_id: str) -> str:
    """Returns the id, or "" if the id must not be logged."""
    plain = request_id.isascii() and request_id.isprintable() and " " not in request_id
    return request_id if plain and len(request_id) <= MAX_REQUEST_ID else ""
