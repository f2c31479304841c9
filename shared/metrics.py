"""What API and workers have in common of their Prometheus metrics."""

from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

MODELS = 100  # that a process tells apart: they are the users' words
OTHER_MODELS = "other"
# As OpenTelemetry's conventions advise for gen_ai.client.operation.duration, .token.usage and
# http.server.request.duration.
CALL_BUCKETS_S = tuple(0.01 * 2**n for n in range(14))
TOKEN_BUCKETS = tuple(4**n for n in range(14))
HTTP_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

Metric = TypeVar("Metric", Counter, Gauge, Histogram)


class Labelled(Generic[Metric]):
    """A metric's children by their labels, without the checks and the lock of `labels`, which cost
    more than to count."""

    def __init__(self, metric: Metric) -> None:
        self._metric: Metric = metric
        self._children: dict[tuple[str, ...], Metric] = {}

    def __call__(self, *labels: str) -> Metric:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        return child


class Models:
    """Names of models with a bound."""

    def __init__(self, most: int = MODELS) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, model: str) -> str:
        if model not in self._known:
            if len(self._known) >= self._most:
                return OTHER_MODELS
            self._known.add(model)
        return model


def new_registry() -> CollectorRegistry:
    """With CPU, memory and files of this process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry
