"""What is told of each request: its id to the log and to the client, its time to Prometheus."""

from collections.abc import Awaitable
from time import perf_counter
from uuid import uuid4

from prometheus_client import CollectorRegistry, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

REQUEST_ID = "X-Request-ID"
MAX_ID = 64
# As OpenTelemetry's conventions advise for http.server.request.duration.
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
ROUTE = "route"  # in the scope, once it is known
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}


class RequestMetricsMiddleware:
    """Middleware. The id is the client's, if it sent one that can be used. The time is that to the
    start of the answer: a stream may last for hours, and is not to hold a frame of this."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._duration = Histogram(
            "http_server_request_duration_seconds",
            "To the start of the answer, by route.",
            ("http_request_method", "http_route", "http_response_status_code"),
            buckets=BUCKETS_S,
            registry=registry,
        )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        started = perf_counter()
        request_id = _usable(Headers(scope=scope).get(REQUEST_ID, "")) or uuid4().hex
        bind_contextvars(request=request_id)  # of this task, which is the request's

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
                method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
                route = getattr(scope.get(ROUTE), "path", "")
                labels = (method, route, str(message["status"]))
                self._duration.labels(*labels).observe(perf_counter() - started)
            await send(message)

        return self._app(scope, receive, observed)


def _usable(request_id: str) -> str:
    plain = request_id.isascii() and request_id.isprintable() and " " not in request_id
    return request_id if plain and len(request_id) <= MAX_ID else ""
