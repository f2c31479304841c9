"""What this worker does: counted for Prometheus, and reported to whoever looks at the deployment.

Names: OpenTelemetry's GenAI conventions where they have one, else `orchestrator_…`, as Prometheus
writes them.
"""

from collections.abc import Callable, Mapping

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from shared.jobs import WEBHOOK_LANE
from shared.metrics import CALL_BUCKETS_S, TOKEN_BUCKETS, Labelled, Models, new_registry
from shared.monitor import Counts
from shared.results import Result

ANSWERED = "answered"  # the outcome that is no error code


class Telemetry:
    def __init__(self) -> None:
        self.registry = new_registry()
        self.counts = Counts()
        self._model = Models()
        call = ("gen_ai_provider_name", "gen_ai_request_model")
        self._duration = Labelled(
            Histogram(
                "gen_ai_client_operation_duration_seconds",
                "Calls to providers; error_type is empty for an answer.",
                (*call, "error_type", "gen_ai_operation_name"),
                buckets=CALL_BUCKETS_S,
                registry=self.registry,
            )
        )
        self._tokens = Labelled(
            Histogram(
                "gen_ai_client_token_usage",
                "Tokens of an answer, as the provider counts them.",
                (*call, "gen_ai_token_type", "gen_ai_operation_name"),
                buckets=TOKEN_BUCKETS,
                registry=self.registry,
            )
        )
        self._items = Labelled(
            self._counter("items", "Requests that have ended.", "provider", "model", "outcome")
        )
        self._attempts = Labelled(
            self._counter("attempts", "Calls that have ended.", "provider", "outcome")
        )
        self._deliveries = Labelled(
            self._counter("webhook_attempts", "Webhooks called.", "outcome")
        )
        self._queue_time = Labelled(
            Histogram(
                "orchestrator_queue_time_seconds",
                "From acceptance to the start of the call that ended it.",
                ("provider",),
                buckets=(*CALL_BUCKETS_S, 300, 1200, 3600),
                registry=self.registry,
            )
        )
        self.claims = self._counter("claims", "Rounds with Redis that asked for items.")
        self.claimed = self._counter("claimed_items", "Items that those have brought.")
        self.leases_lost = self._counter(
            "leases_lost", "Calls stopped because their lease had ended or could not be renewed."
        )
        self.redis_errors = self._counter("redis_errors", "Commands that Redis did not answer.")

    def attempt(self, provider: str, model: str, *, code: str | None, latency_ms: float) -> None:
        """`code`: why there is no answer."""
        model = self._model(model)
        self._duration(provider, model, code or "", "chat").observe(latency_ms / 1000)
        self._attempts(provider, code or ANSWERED).inc()
        self.counts.call(provider, model, code, latency_ms)

    def ended(self, provider: str, model: str, result: Result) -> None:
        model = self._model(model)
        self._items(provider, model, str(result.error_code or ANSWERED)).inc()
        self._queue_time(provider).observe(result.queued_ms / 1000)
        if not result.error:
            self._tokens(provider, model, "input", "chat").observe(result.prompt_tokens)
            self._tokens(provider, model, "output", "chat").observe(result.completion_tokens)
            self.counts.tokens(provider, result.prompt_tokens, result.completion_tokens)

    def delivery(self, *, delivered: bool, latency_ms: float) -> None:
        """An attempt to tell a webhook."""
        self._deliveries("delivered" if delivered else "failed").inc()
        self.counts.call(WEBHOOK_LANE, "", None if delivered else "failed", latency_ms)

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

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"orchestrator_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"orchestrator_{name}", text, ("provider",), registry=self.registry)


def _reader(running: Mapping[str, int], lane: str) -> Callable[[], float]:
    return lambda: running.get(lane, 0)
