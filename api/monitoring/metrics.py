"""Returns the metrics of this API process, and of all lanes and workers, to Prometheus."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.monitoring.overview_feed import OverviewFeed
from shared.monitoring.metrics import ModelLabels
from shared.monitoring.models import Lane, Overview, WorkerState
from shared.providers import WEBHOOK_LANE
from shared.redis.client import RedisUnavailable


class Metrics:
    def __init__(self, feed: OverviewFeed, registry: CollectorRegistry) -> None:
        self._feed = feed
        self._registry = registry
        self._deployments = ModelLabels()
        self._redis_up = Gauge(
            "orchestrator_redis_up",
            "1 if Redis was available for this scrape, 0 if it was not.",
            registry=self._registry,
        )
        self._redis_errors = Counter(
            "orchestrator_redis_errors",
            "Number of scrapes for which Redis was unavailable. HTTP requests for which Redis was"
            " unavailable are counted as responses with status 503.",
            registry=self._registry,
        )

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Returns the metrics in the format that the `Accept` header asks for, and its media type.

        While Redis is unavailable, the metrics of lanes and workers are left out.
        """
        encode, media_type = choose_encoder(accept)
        try:
            overview = await self._feed.overview()
        except RedisUnavailable:
            self._redis_up.set(0)
            self._redis_errors.inc()
            return encode(self._registry), media_type
        self._redis_up.set(1)
        lanes = CollectorRegistry()
        lanes.register(_OverviewCollector(overview, self._deployments))
        # An OpenMetrics document has only one end marker, after the last metric.
        process = encode(self._registry).removesuffix(b"# EOF\n")
        return process + encode(lanes), media_type


class _OverviewCollector(Collector):
    """Returns the metrics of lanes and workers.

    Every API process returns the same values: aggregate them with `max`, not with `sum`.
    """

    def __init__(self, overview: Overview, deployments: ModelLabels) -> None:
        self._overview = overview
        self._deployments = deployments

    def collect(self) -> Iterable[Metric]:
        at, lanes = self._overview.at, self._overview.lanes
        values: dict[str, tuple[str, list[float | None]]] = {
            "in_flight": (
                "Number of calls that run now, on all workers.",
                [lane.in_flight for lane in lanes],
            ),
            "limit": (
                "Limit of calls that run at once, on all workers.",
                [lane.limit for lane in lanes],
            ),
            "queued": (
                "Number of requests that wait for a free slot or the end of a pause.",
                [lane.queued for lane in lanes],
            ),
            "deferred": (
                "Number of requests that wait for a retry.",
                [lane.deferred for lane in lanes],
            ),
            "oldest_waiting_seconds": (
                "Time since the oldest queued request was accepted; 0 if no request is queued.",
                [lane.oldest_waiting_s or 0 for lane in lanes],
            ),
            "paused": (
                "1 while the lane is paused because the provider limits requests, 0 otherwise.",
                [float(bool(lane.paused_until)) for lane in lanes],
            ),
            "pause_left_seconds": (
                "Time until the pause ends; 0 if the lane is not paused.",
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
        yield self._deployment_states()
        workers = GaugeMetricFamily(
            "orchestrator_workers", "Number of worker processes.", labels=["state"]
        )
        for state in WorkerState:
            count = sum(worker.state is state for worker in self._overview.workers)
            workers.add_metric([state], count)
        yield workers

    def _deployment_states(self) -> Metric:
        """Returns the number of deployments by state.

        Every provider has a series, so that an alert can distinguish a provider that works from a
        missing metric. A model has a series only while the model is not healthy.
        """
        counts = defaultdict[tuple[str, ...], int](int)
        for lane in self._overview.lanes:
            for labels in self._states(lane) if lane.name != WEBHOOK_LANE else ():
                counts[labels] += 1
        family = GaugeMetricFamily(
            "orchestrator_deployment_state",
            "Number of deployments (a provider, or one of its models) in a state: healthy, paused,"
            " or probing (the deployment does not work).",
            labels=["provider", "deployment", "state", "verdict"],
        )
        for labels, number in counts.items():
            family.add_metric(labels, number)
        return family

    def _states(self, lane: Lane) -> Iterator[tuple[str, ...]]:
        if all(deployment.name != lane.name for deployment in lane.deployments):
            yield lane.name, lane.name, "healthy", ""
        for deployment in lane.deployments:
            is_model = deployment.name != lane.name
            name = self._deployments.label(deployment.name) if is_model else lane.name
            yield lane.name, name, deployment.state, deployment.verdict
