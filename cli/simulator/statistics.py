"""The figures of all calls, and the ledger's line for each."""

from collections import Counter
from dataclasses import dataclass, field

from cli.simulator.dialects import DIALECTS, Dialect
from cli.simulator.faults import Outcome


@dataclass(slots=True)
class Tally:
    total: int = 0
    in_flight: int = 0
    peak: int = 0


@dataclass(slots=True)
class Statistics(Tally):
    """The figures of `GET /_sim/stats`; `calls` is by item, `answers` by HTTP status."""

    aborted: int = 0
    over_limit: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    by_dialect: dict[Dialect, Tally] = field(
        default_factory=lambda: {dialect: Tally() for dialect in DIALECTS}
    )
    calls: Counter[str] = field(default_factory=Counter)

    def reset(self) -> None:
        for tally in (self, *self.by_dialect.values()):
            tally.total, tally.peak = 0, tally.in_flight
        self.aborted = self.over_limit = 0
        self.answers.clear()
        self.calls.clear()


@dataclass(slots=True)
class Call:
    """A line of the ledger; a hang ends, as "hang", when the client goes away."""

    item: str
    dialect: Dialect
    client: int  # its port, which tells the process that called
    start_ms: float
    end_ms: float | None = None
    outcome: Outcome | None = None
