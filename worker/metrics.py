"""Defines the Prometheus metrics of a worker process.

If OpenTelemetry's conventions for generative AI define a metric, the metric has the name that the
conventions give it. prometheus_client's metrics of a process start with `process_`, and all other
names start with `orchestrator_`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import Counter, Gauge, make_wsgi_app, start_http_server

from shared.monitoring.metrics import new_registry
from worker.call_metrics import CallMetrics


class MetricsPortError(Exception):
    """The worker cannot listen on WORKER_METRICS_PORT. `str(error)` is the reason."""


class WorkerMetrics:
    def __init__(self) -> None:
        self.registry = new_registry()
        self.calls = CallMetrics()
        self.registry.register(self.calls)
        self.claims = self._counter("claims", "Rounds in which this worker asked Redis for items.")
        self.claimed = self._counter("claimed_items", "Items that this worker claimed.")
        self.leases_lost = self._counter(
            "leases_lost",
            "Calls that this worker stopped because their lease had expired or could not be"
            " renewed.",
        )
        self.redis_errors = self._counter(
            "redis_errors", "Rounds and lease renewals that failed because Redis was unavailable."
        )

    def show_lanes(self, limits: Mapping[str, int], running: Mapping[str, int]) -> None:
        """Exposes the limit and the running calls of the lanes in `limits`.

        Reads `running` at each scrape.
        """
        in_flight = self._gauge("worker_in_flight", "Calls that this worker runs now.")
        limit_gauge = self._gauge(
            "worker_limit",
            "Limit of calls that all workers together run at once, from this worker's settings.",
        )
        for lane, limit in limits.items():
            in_flight.labels(lane).set_function(_reader(running, lane))
            limit_gauge.labels(lane).set(limit)

    def serve(self, port: int) -> Callable[[], None]:
        """Serves /metrics on every IPv4 interface, in a new thread.

        Returns a function that stops the server and waits for the thread. Raises MetricsPortError.
        """
        try:
            server, thread = start_http_server(port, registry=self.registry)
        except OSError as error:
            raise MetricsPortError(
                f"WORKER_METRICS_PORT: can't listen on port {port}: {error.strerror}."
                " Choose another port."
            ) from None
        server.set_app(_answering_head(make_wsgi_app(self.registry)))

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"orchestrator_{name}", text, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"orchestrator_{name}", text, ("provider",), registry=self.registry)


def _answering_head(app: WSGIApplication) -> WSGIApplication:
    """Returns an application that answers HEAD like GET, without the body (RFC 9110, 9.3.2)."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "HEAD":
            return app(environ, start_response)
        started: list[Any] = []

        def start(*args: Any) -> Callable[[bytes], object]:  # noqa: ANN401 — as WSGI defines it
            started.extend(args)
            return lambda _: None

        body = app(environ | {"REQUEST_METHOD": "GET"}, start)
        status, headers = started
        length = sum(len(part) for part in body)
        start_response(status, [*headers, ("Content-Length", str(length))])
        return []

    return answer


def _reader(running: Mapping[str, int], lane: str) -> Callable[[], float]:
    return lambda: running.get(lane, 0)
