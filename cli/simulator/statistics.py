"""Defines the counts of all calls, and the line that the ledger keeps for each call."""

from collections import Counter
from dataclasses import dataclass, field

from cli.simulator.dialects import DIALECTS
from cli.simulator.faults import CallOutcome


@dataclass(slots=True)
class SimulatedCounts:
    total: int = 0
    in_flight: int = 0
    peak: int = 0  # the highest `in_flight` so far


@dataclass(slots=True)
class NamedCounts(SimulatedCounts):
    """Counts the calls of one model or key.

    answered, refused: responses with status 200, and with another status.
    """

    answered: int = 0
    refused: int = 0


_MAX_NAMES = 1_000
_OTHERS = "(others)"


class CountsByName(dict[str, NamedCounts]):
    """Contains the counts of at most 1,000 names, and of all further names together."""

    def __missing__(self, name: str) -> NamedCounts:
        if len(self) >= _MAX_NAMES and name != _OTHERS:
            return self[_OTHERS]
        return self.setdefault(name, NamedCounts())


@dataclass(slots=True)
class Statistics(SimulatedCounts):
    """Counts calls, for `GET /_sim/stats`. `answers` counts per HTTP status, `calls` per item.

    aborted: calls whose clients have disconnected. over_limit: calls refused because of `limit`.
    """

    aborted: int = 0
    over_limit: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    by_dialect: dict[str, SimulatedCounts] = field(
        default_factory=lambda: {dialect: SimulatedCounts() for dialect in DIALECTS}
    )
    by_model: CountsByName = field(default_factory=CountsByName)
    by_key: CountsByName = field(default_factory=CountsByName)
    calls: Counter[str] = field(default_factory=Counter)

    def reset(self) -> None:
        """Resets all counts. Calls in flight still count as in flight."""
        named = (*self.by_model.values(), *self.by_key.values())
        for counts in (self, *self.by_dialect.values(), *named):
            counts.total, counts.peak = 0, counts.in_flight
        for counts in named:
            counts.answered = counts.refused = 0
        self.aborted = self.over_limit = 0
        self.answers.clear()
        self.calls.clear()


@dataclass(slots=True)
class Call:
    """Describes one call in a line of the ledger.

    Times are milliseconds of `time.monotonic`. `end_ms` and `outcome` are None until the call ends.
    A call that hangs ends when its client disconnects.
    """

    item: str
    dialect: str
    model: str
    key: str
    client: int  # port of the client, which identifies the calling process
    start_ms: float
    end_ms: float | None = None
    outcome: CallOutcome | None = None
