"""What this worker does, for Prometheus.

Names: OpenTelemetry's GenAI conventions where they have one, else `orchestrator_…`, as Prometheus
writes them.
"""

from collections.abc import Callable, Mapping

from prometheus_client import Counter, Gauge, start_http_server

from shared.monitoring.metrics import new_registry
from worker.call_metrics import CallMetrics


class WorkerMetrics:
    def __init__(self) -> None:
        self.registry = new_registry()
        self.tally = CallMetrics()
        self.registry.register(self.tally)
        self.claims = self._counter("claims", "Rounds with Redis that asked for items.")
        self.claimed = self._counter("claimed_items", "Items that those have brought.")
        self.leases_lost = self._counter(
            "leases_lost", "Calls stopped because their lease had ended or could not be renewed."
        )
        self.redis_errors = self._counter("redis_errors", "Commands that Redis did not answer.")

    def show(self, limits: Mapping[str, int], running: Mapping[str, int]) -> None:
        """As they are when somebody looks."""
        in_flight = self._gauge("worker_in_flight", "Calls of this worker.")
        most = self._gauge("worker_limit", "Of all workers together, as this one is told.")
        for lane, limit in limits.items():
            in_flight.labels(lane).set_function(_reader(running, lane))
            most.labels(lane).set(limit)

    def serve(self, port: int) -> Callable[[], None]:
        """At /metrics, in a thread, on every interface. Returns what ends it. Raises OSError."""
        server, thread = start_http_server(port, registry=self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"orchestrator_{name}", text, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"orchestrator_{name}", text, ("provider",), registry=self.registry)


def _reader(running: Mapping[str, int], lane: str) -> Callable[[], float]:
    return lambda: running.get(lane, 0)
