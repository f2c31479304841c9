"""Counts of this worker's calls and items: each item adds to them, few look."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.monitoring.histogram import (
    PER_OCTAVE,
    UNIT_MS,
    Bins,
    cumulated,
    duration_bin,
    token_bin,
)
from shared.monitoring.metrics import Models
from shared.providers import WEBHOOK_LANE
from shared.queue.results import Result

ANSWERED = "answered"  # the outcome that is no error code
# As OpenTelemetry's conventions advise for gen_ai.client.operation.duration and .token.usage.
_CALL_LIMITS = [(UNIT_MS / 1000 * 2**n, PER_OCTAVE * n) for n in range(14)]
_QUEUE_LIMITS = [(UNIT_MS / 1000 * 2**n, PER_OCTAVE * n) for n in range(20)]
_TOKEN_LIMITS = [(4.0**n, n) for n in range(14)]

Labels = tuple[str, str, str]  # provider, model, error code or outcome


@dataclass(slots=True)
class _Sum:
    count: int = 0
    total: float = 0
    bins: Bins = field(default_factory=lambda: defaultdict(int))

    def add(self, value: float, bin_: int) -> None:
        self.count += 1
        self.total += value
        self.bins[bin_] += 1

    def merge(self, other: "_Sum") -> None:
        self.count += other.count
        self.total += other.total
        for number, count in list(other.bins.items()):
            self.bins[number] += count


@dataclass(slots=True)
class _Items:
    queued_ms: _Sum = field(default_factory=_Sum)
    prompt_tokens: _Sum = field(default_factory=_Sum)
    completion_tokens: _Sum = field(default_factory=_Sum)


class CallMetrics(Collector):
    def __init__(self) -> None:
        self._model = Models()
        self._calls: dict[Labels, _Sum] = defaultdict(_Sum)
        self._items: dict[Labels, _Items] = defaultdict(_Items)
        self._reported: Mapping[str, int] = {}

    def call(self, provider: str, model: str, code: str, latency_ms: float) -> None:
        """`code`: why there is no answer; '': there is."""
        labels = (provider, self._model(model), code)
        self._calls[labels].add(latency_ms, duration_bin(latency_ms))

    def item(self, provider: str, model: str, result: Result) -> None:
        items = self._items[provider, self._model(model), result.error_code or ANSWERED]
        items.queued_ms.add(result.queued_ms, duration_bin(result.queued_ms))
        if not result.error:
            prompt, completion = result.prompt_tokens, result.completion_tokens
            items.prompt_tokens.add(prompt, token_bin(prompt))
            items.completion_tokens.add(completion, token_bin(completion))

    def counts(self) -> dict[str, int]:
        """What was not reported yet, as `Monitor.report` wants it."""
        now = self._totals()
        return {
            name: count - before
            for name, count in now.items()
            if count != (before := self._reported.get(name, 0))
        }

    def reported(self, counts: Mapping[str, int]) -> None:
        self._reported = Counter(self._reported) + Counter(counts)

    def _totals(self) -> dict[str, int]:
        totals = Counter[str]()
        for (lane, model, code), calls in self._calls.items():
            totals[f"{lane} calls {code or '-'} {model}"] += calls.count
            totals[f"{lane} latency_ms"] += round(calls.total)
            for number, count in calls.bins.items():
                totals[f"{lane} bin {number}"] += count
        for (lane, _, _), items in self._items.items():
            totals[f"{lane} prompt_tokens"] += int(items.prompt_tokens.total)
            totals[f"{lane} completion_tokens"] += int(items.completion_tokens.total)
        return totals

    def collect(self) -> Iterable[Metric]:
        """For Prometheus, in another thread."""
        calls, items = list(self._calls.items()), list(self._items.items())
        of_call = ["gen_ai_provider_name", "gen_ai_request_model", "gen_ai_operation_name"]
        duration = HistogramMetricFamily(
            "gen_ai_client_operation_duration_seconds",
            "Calls to providers; error_type is empty for an answer.",
            labels=[*of_call, "error_type"],
        )
        attempts = CounterMetricFamily(
            "orchestrator_attempts", "Calls that have ended.", labels=["provider", "outcome"]
        )
        deliveries = CounterMetricFamily(
            "orchestrator_webhook_attempts", "Webhooks called.", labels=["outcome"]
        )
        outcomes = Counter[tuple[str, str]]()
        for (provider, model, code), calls_ in calls:
            if provider == WEBHOOK_LANE:
                deliveries.add_metric([code or "delivered"], calls_.count)
                continue
            outcomes[provider, code or ANSWERED] += calls_.count
            buckets = cumulated(calls_.bins, _CALL_LIMITS)
            duration.add_metric([provider, model, "chat", code], buckets, calls_.total / 1000)
        for labels, count in outcomes.items():
            attempts.add_metric(labels, count)
        yield from (duration, attempts, deliveries)

        ended = CounterMetricFamily(
            "orchestrator_items",
            "Requests that have ended.",
            labels=["provider", "model", "outcome"],
        )
        tokens = HistogramMetricFamily(
            "gen_ai_client_token_usage",
            "Tokens of an answer, as the provider counts them.",
            labels=[*of_call, "gen_ai_token_type"],
        )
        queue_time = HistogramMetricFamily(
            "orchestrator_queue_time_seconds",
            "From acceptance to the start of the call that ended it.",
            labels=["provider"],
        )
        waited: dict[str, _Sum] = defaultdict(_Sum)
        for (provider, model, outcome), of in items:
            ended.add_metric([provider, model, outcome], of.queued_ms.count)
            waited[provider].merge(of.queued_ms)
            for kind, used in (("input", of.prompt_tokens), ("output", of.completion_tokens)):
                if used.count:
                    buckets = cumulated(used.bins, _TOKEN_LIMITS)
                    tokens.add_metric([provider, model, "chat", kind], buckets, used.total)
        for provider, queued in waited.items():
            buckets = cumulated(queued.bins, _QUEUE_LIMITS)
            queue_time.add_metric([provider], buckets, queued.total / 1000)
        yield from (ended, tokens, queue_time)
