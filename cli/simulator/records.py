"""Counts the calls, and keeps a line for each call in the ledger."""

import time
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus

from cli.simulator.chat import Chat
from cli.simulator.faults import CallOutcome
from cli.simulator.slots import Leave
from cli.simulator.statistics import Call, NamedCounts, SimulatedCounts, Statistics

_MAX_LEDGER_CALLS = 200_000


@dataclass(slots=True, eq=False)
class OpenCall:
    """Contains a call that has no outcome yet.

    leaves: functions that end the call's wait for a slot or a model, or free its slot.
    """

    line: Call
    counts: tuple[SimulatedCounts, ...]
    named: tuple[NamedCounts, ...]
    in_flight: bool = False
    leaves: list[Leave] = field(default_factory=list)


class Records:
    """Records calls: `open`, then `start` if the call is worked on, then `end`.

    If the client disconnects, `abort` takes the place of `end`. The ledger keeps the last 200,000
    calls.
    """

    def __init__(self) -> None:
        self.statistics = Statistics()
        self.ledger: deque[Call] = deque(maxlen=_MAX_LEDGER_CALLS)

    def counts(self, dialect: str) -> tuple[SimulatedCounts, SimulatedCounts]:
        return self.statistics, self.statistics.by_dialect[dialect]

    def open(self, dialect: str, chat: Chat, key: str, client: int, *, keep: bool) -> OpenCall:
        """Counts the call. `keep` adds a line to the ledger."""
        line = Call(chat.item, dialect, chat.model, key, client, _now_ms())
        named = (self.statistics.by_model[chat.model], self.statistics.by_key[key])
        call = OpenCall(line, (*self.counts(dialect), *named), named)
        for counts in call.counts:
            counts.total += 1
        self.statistics.calls[line.item] += 1
        if keep:
            self.ledger.append(line)
        return call

    def start(self, call: OpenCall) -> None:
        call.in_flight = True
        for counts in call.counts:
            counts.in_flight += 1
            counts.peak = max(counts.peak, counts.in_flight)

    def end(self, call: OpenCall, outcome: CallOutcome) -> None:
        if call.in_flight:
            for counts in call.counts:
                counts.in_flight -= 1
        call.line.end_ms = _now_ms()
        call.line.outcome = outcome
        if isinstance(outcome, int):
            self.statistics.answers[str(outcome)] += 1
            for counts in call.named:
                counts.answered += outcome == HTTPStatus.OK
                counts.refused += outcome != HTTPStatus.OK
        for leave in call.leaves:
            leave()

    def abort(self, call: OpenCall, *, hung: bool) -> None:
        self.statistics.aborted += 1
        self.end(call, "hang" if hung else "aborted")

    def reset(self) -> None:
        self.statistics.reset()
        self.ledger.clear()


def _now_ms() -> float:
    return time.monotonic() * 1000
