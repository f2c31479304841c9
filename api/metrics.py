"""What the API tells Prometheus: of itself, and the lanes as Redis has them."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from api.overview_feed import OverviewFeed
from shared.monitoring.models import Overview, WorkerState


class Metrics:
    def __init__(self, live: OverviewFeed, registry: CollectorRegistry) -> None:
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
