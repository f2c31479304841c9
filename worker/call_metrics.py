"""Counts the calls and the finished items of this worker, for Prometheus and for the overview.

Every call adds to the counts, but the counts are read only every few seconds. So an addition does
little work, and the sums are computed when the counts are read.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.monitoring.counters import Calls, Durations, Quantity, Total
from shared.monitoring.counters import Counter as CounterKey
from shared.monitoring.histogram import (
    BUCKETS_PER_OCTAVE,
    UNIT_MS,
    Histogram,
    duration_bucket,
    token_bucket,
)
from shared.monitoring.metrics import OTHER_MODELS, ModelLabels
from shared.providers import WEBHOOK_LANE
from shared.queue.item_results import Result

FORGOTTEN = "\0"  # stands for the models that have no label any more; no model has this name
_NO_MODELS = ("", OTHER_MODELS)
ANSWERED = "answered"  # the outcome of an item without an error code

# Each pair is an upper bound and the number of the last bucket below the bound. OpenTelemetry's
# conventions recommend the bounds of calls for gen_ai.client.operation.duration, and the bounds of
# tokens for gen_ai.client.token.usage:
# https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
_CALL_BOUNDS_S = [(UNIT_MS / 1000 * 2**n, BUCKETS_PER_OCTAVE * n) for n in range(14)]
_QUEUE_BOUNDS_S = [(UNIT_MS / 1000 * 2**n, BUCKETS_PER_OCTAVE * n) for n in range(20)]
_TOKEN_BOUNDS = [(4.0**n, n) for n in range(14)]
_CHAT_LABELS = ["gen_ai_provider_name", "gen_ai_request_model", "gen_ai_operation_name"]

CallLabels = tuple[str, str, str]  # provider, model, error code ("" for an answer)
ItemLabels = tuple[str, str, str]  # provider, model, outcome


@dataclass(slots=True)
class _Items:
    queued_ms: Histogram = field(default_factory=Histogram)
    prompt_tokens: Histogram = field(default_factory=Histogram)
    completion_tokens: Histogram = field(default_factory=Histogram)

    def merge(self, other: "_Items") -> None:
        self.queued_ms.merge(other.queued_ms)
        self.prompt_tokens.merge(other.prompt_tokens)
        self.completion_tokens.merge(other.completion_tokens)


class CallMetrics(Collector):
    def __init__(self) -> None:
        self._models = ModelLabels(forget=self._forget)
        self._calls: dict[CallLabels, Histogram] = defaultdict(Histogram)  # durations in ms
        self._items: dict[ItemLabels, _Items] = defaultdict(_Items)
        self._reported = Counter[CounterKey]()

    def add_call(
        self, provider: str, model: str, code: str, latency_ms: float, *, owner: str = ""
    ) -> None:
        """Counts a call that has ended. `code`: the call's error code, or "" for an answer."""
        labels = (provider, self._models.label(model, owner, is_served=not code), code)
        self._calls[labels].add(latency_ms, duration_bucket(latency_ms))

    def add_item(self, provider: str, model: str, result: Result, *, owner: str = "") -> None:
        label = self._models.label(model, owner, is_served=not result.error)
        items = self._items[provider, label, result.error_code or ANSWERED]
        items.queued_ms.add(result.queued_ms, duration_bucket(result.queued_ms))
        if not result.error:
            prompt, completion = result.prompt_tokens, result.completion_tokens
            items.prompt_tokens.add(prompt, token_bucket(prompt))
            items.completion_tokens.add(completion, token_bucket(completion))

    def unreported(self) -> dict[CounterKey, int]:
        """Returns the part of each count that was not reported yet, unless the part is 0."""
        return {
            counter: count - before
            for counter, count in self._totals().items()
            if count != (before := self._reported.get(counter, 0))
        }

    def mark_reported(self, counts: Mapping[CounterKey, int]) -> None:
        """Excludes these counts, which `unreported` returned, from the next `unreported`."""
        for counter, count in counts.items():
            self._reported[self._counted_as(counter)] += count

    def _counted_as(self, counter: CounterKey) -> CounterKey:
        """Returns `counter`, or the counter of OTHER_MODELS if its model has no label any more."""
        if not isinstance(counter, Calls) or counter.model in _NO_MODELS:
            return counter
        return counter if counter.model in self._models else replace(counter, model=OTHER_MODELS)

    def _forget(self, model: str) -> None:
        """Adds the counts of a model that loses its label to the counts of FORGOTTEN."""
        for labels in [labels for labels in self._calls if labels[1] == model]:
            provider, _, code = labels
            self._calls[provider, FORGOTTEN, code].merge(self._calls.pop(labels))
            reported = self._reported.pop(Calls(provider, code, model), 0)
            self._reported[Calls(provider, code, OTHER_MODELS)] += reported
        for labels in [labels for labels in self._items if labels[1] == model]:
            provider, _, outcome = labels
            self._items[provider, FORGOTTEN, outcome].merge(self._items.pop(labels))

    def _totals(self) -> dict[CounterKey, int]:
        totals = Counter[CounterKey]()
        for (lane, model, code), calls in self._calls.items():
            shown = OTHER_MODELS if model == FORGOTTEN else model
            totals[Calls(lane, code, shown)] += calls.count
            totals[Total(lane, Quantity.LATENCY_MS)] += round(calls.sum)
            for bucket, count in calls.buckets.items():
                totals[Durations(lane, bucket)] += count
        for (lane, _, _), items in self._items.items():
            totals[Total(lane, Quantity.PROMPT_TOKENS)] += int(items.prompt_tokens.sum)
            totals[Total(lane, Quantity.COMPLETION_TOKENS)] += int(items.completion_tokens.sum)
        return totals

    def collect(self) -> Iterable[Metric]:
        # prometheus_client calls this method from another thread, so the dictionaries are copied
        # before they are iterated over.
        yield from _call_metrics(list(self._calls.items()))
        yield from _item_metrics(list(self._items.items()))


def _call_metrics(calls: Iterable[tuple[CallLabels, Histogram]]) -> Iterable[Metric]:
    duration = HistogramMetricFamily(
        "gen_ai_client_operation_duration_seconds",
        "Duration of calls to providers; error_type is empty if the call was answered.",
        labels=[*_CHAT_LABELS, "error_type"],
    )
    attempts = CounterMetricFamily(
        "orchestrator_attempts", "Ended calls to providers.", labels=["provider", "outcome"]
    )
    deliveries = CounterMetricFamily(
        "orchestrator_webhook_attempts", "Ended calls to webhooks.", labels=["outcome"]
    )
    outcomes = Counter[tuple[str, str]]()
    for (provider, model, code), durations in calls:
        if provider == WEBHOOK_LANE:
            deliveries.add_metric([code or "delivered"], durations.count)
            continue
        outcomes[provider, code or ANSWERED] += durations.count
        if model == FORGOTTEN:
            continue
        buckets = durations.cumulative(_CALL_BOUNDS_S)
        duration.add_metric([provider, model, "chat", code], buckets, durations.sum / 1000)
    for labels, count in outcomes.items():
        attempts.add_metric(labels, count)
    yield from (duration, attempts, deliveries)


def _item_metrics(items: Iterable[tuple[ItemLabels, _Items]]) -> Iterable[Metric]:
    finished = CounterMetricFamily(
        "orchestrator_items", "Finished requests.", labels=["provider", "model", "outcome"]
    )
    tokens = HistogramMetricFamily(
        "gen_ai_client_token_usage",
        "Tokens of an answer, as the provider counts them.",
        labels=[*_CHAT_LABELS, "gen_ai_token_type"],
    )
    queue_time = HistogramMetricFamily(
        "orchestrator_queue_time_seconds",
        "Time from the acceptance of a request to the start of its last call.",
        labels=["provider"],
    )
    queued: dict[str, Histogram] = defaultdict(Histogram)
    for (provider, model, outcome), sums in items:
        queued[provider].merge(sums.queued_ms)
        if model == FORGOTTEN:
            continue
        finished.add_metric([provider, model, outcome], sums.queued_ms.count)
        for kind, used in (("input", sums.prompt_tokens), ("output", sums.completion_tokens)):
            if used.count:
                buckets = used.cumulative(_TOKEN_BOUNDS)
                tokens.add_metric([provider, model, "chat", kind], buckets, used.sum)
    for provider, durations in queued.items():
        buckets = durations.cumulative(_QUEUE_BOUNDS_S)
        queue_time.add_metric([provider], buckets, durations.sum / 1000)
    yield from (finished, tokens, queue_time)
