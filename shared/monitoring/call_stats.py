"""Sums the counters of the history into the statistics of lanes and models."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.monitoring.counters import (
    Calls,
    Durations,
    Level,
    LevelName,
    Quantity,
    Total,
    decode,
)
from shared.monitoring.histogram import quantile_ms
from shared.monitoring.models import LaneStats, ModelStats

MODELS_SHOWN = 20

CallCounts = Mapping[
    tuple[str, str], int
]  # number of calls by error code ("" for an answer) and model


@dataclass(slots=True)
class LaneCounts:
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)  # the same form as CallCounts
    durations: Counter[int] = field(default_factory=Counter)  # number of calls by histogram bucket
    totals: Counter[Quantity] = field(default_factory=Counter)
    levels: dict[LevelName, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.calls or any(self.totals.values()) or any(self.levels.values()))

    @property
    def mean_ms(self) -> float | None:
        calls = self.calls.total()
        return round(self.totals[Quantity.LATENCY_MS] / calls, 1) if calls else None

    def stats(self, recent: "LaneCounts", recent_s: float) -> LaneStats:
        """Returns the statistics. The rates come from `recent`, which covers `recent_s` seconds."""
        return LaneStats(
            calls=self.calls.total(),
            calls_per_s=round(recent.calls.total() / recent_s, 3),
            errors=_errors(self.calls),
            errors_per_s=round(sum(_errors(recent.calls).values()) / recent_s, 3),
            prompt_tokens=self.totals[Quantity.PROMPT_TOKENS],
            completion_tokens=self.totals[Quantity.COMPLETION_TOKENS],
            mean_ms=self.mean_ms,
            p50_ms=quantile_ms(self.durations, 0.5),
            p95_ms=quantile_ms(self.durations, 0.95),
            p99_ms=quantile_ms(self.durations, 0.99),
        )

    def models(self) -> list[ModelStats]:
        """Returns at most `MODELS_SHOWN` models, the busiest first.

        If there are more models, those without an answer are left out first, because clients can
        invent names of models.
        """
        by_model: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        for (code, model), count in self.calls.items():
            by_model[model][code, model] = count
        shown = sorted(
            by_model.items(), key=lambda entry: (not entry[1]["", entry[0]], -entry[1].total())
        )
        busiest = sorted(shown[:MODELS_SHOWN], key=lambda entry: -entry[1].total())
        return [
            ModelStats(model=model, calls=calls.total(), errors=_errors(calls))
            for model, calls in busiest
        ]


class CallStats:
    """Sums the counters of one or more steps of the history by lane."""

    def __init__(self) -> None:
        self.lanes: dict[str, LaneCounts] = defaultdict(LaneCounts)

    def add(self, step: Mapping[bytes, bytes]) -> None:
        """Adds a step. Levels are not summed: the level of a later step replaces the earlier."""
        for name, value in step.items():
            count = int(value)
            match decode(name):
                case Calls(lane, code, model):
                    self.lanes[lane].calls[code, model] += count
                case Durations(lane, bucket):
                    self.lanes[lane].durations[bucket] += count
                case Total(lane, quantity):
                    self.lanes[lane].totals[quantity] += count
                case Level(lane, level):
                    self.lanes[lane].levels[level] = count


def _errors(calls: CallCounts) -> dict[str, int]:
    errors = Counter[str]()
    for (code, _), count in calls.items():
        if code:
            errors[code] += count
    return dict(errors.most_common())
