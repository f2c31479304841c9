"""What the API tells Prometheus: its requests, and the lanes as Redis has them."""

from collections.abc import Iterable
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.live import LiveOverview
from shared.overview import Overview, WorkerState

# As OpenTelemetry's conventions advise for http.server.request.duration.
HTTP_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
ROUTE = "route"  # in the scope, once it is known
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}


class Metrics:
    def __init__(self, live: LiveOverview, registry: CollectorRegistry) -> None:
        self._live = live
        self._registry = registry
        self._redis_up = Gauge(
            "orchestrator_redis_up", "1: Redis has answered this scrape.", registry=self._registry
        )
        self._redis_errors = Counter(
            "orchestrator_redis_errors",
            "Scrapes that Redis did not answer; others count as requests answered with 503.",
            registry=self._registry,
        )

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text and its type, as the Accept header wants it."""
        encode, media_type = choose_encoder(accept)
        try:
            overview = await self._live.overview()
        except (RedisError, OSError):
            self._redis_up.set(0)
            self._redis_errors.inc()
            return encode(self._registry), media_type
        self._redis_up.set(1)
        lanes = CollectorRegistry()
        lanes.register(_Lanes(overview))
        own = encode(self._registry)
        return own.removesuffix(b"# EOF\n") + encode(lanes), media_type


class _Lanes(Collector):
    """The same from every API process: take the maximum, not the sum."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    def collect(self) -> Iterable[Metric]:
        at, lanes = self._overview.at, self._overview.lanes
        values: dict[str, tuple[str, list[float | None]]] = {
            "in_flight": ("Calls in flight.", [lane.in_flight for lane in lanes]),
            "limit": ("Calls that may be in flight.", [lane.limit for lane in lanes]),
            "queued": ("Requests that may run.", [lane.queued for lane in lanes]),
            "deferred": ("Requests that wait for a retry.", [lane.deferred for lane in lanes]),
            "oldest_waiting_seconds": (
                "Since the acceptance of the oldest that may run; 0: none waits.",
                [lane.oldest_waiting_s or 0 for lane in lanes],
            ),
            "paused": (
                "1: the provider asked to wait.",
                [float(bool(lane.paused_until)) for lane in lanes],
            ),
            "pause_left_seconds": (
                "Until the pause ends.",
                [
                    (lane.paused_until - at).total_seconds() if lane.paused_until else 0
                    for lane in lanes
                ],
            ),
        }
        for name, (text, numbers) in values.items():
            family = GaugeMetricFamily(f"orchestrator_lane_{name}", text, labels=["provider"])
            for lane, number in zip(lanes, numbers, strict=True):
                if number is not None:
                    family.add_metric([lane.name], number)
            yield family
        workers = GaugeMetricFamily("orchestrator_workers", "Worker processes.", labels=["state"])
        for state in WorkerState:
            count = sum(worker.state is state for worker in self._overview.workers)
            workers.add_metric([state], count)
        yield workers


class RequestMetrics:
    """Middleware. The time is that to the start of the answer: a stream may last for hours."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._duration = Histogram(
            "http_server_request_duration_seconds",
            "To the start of the answer, by route.",
            ("http_request_method", "http_route", "http_response_status_code"),
            buckets=HTTP_BUCKETS_S,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
                route = getattr(scope.get(ROUTE), "path", "")
                taken_s = perf_counter() - started
                labels = (method, route, str(message["status"]))
                self._duration.labels(*labels).observe(taken_s)
            await send(message)

        await self._app(scope, receive, counting)
