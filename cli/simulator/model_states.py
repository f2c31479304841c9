"""Holds the behaviour of each dialect and model, with its random numbers and counts."""

import random
import time
from dataclasses import dataclass

from cli.simulator.behaviour import Behaviour, fault_shares
from cli.simulator.dialects import DIALECTS
from cli.simulator.faults import Plan
from cli.simulator.slots import Slots
from cli.simulator.statistics import SimulatedCounts, Statistics


@dataclass(frozen=True, slots=True)
class BehaviourState:
    """Contains the behaviour for a dialect or a model, with its random numbers and its slots."""

    behaviour: Behaviour
    shares: list[tuple[float, Plan]]
    rng: random.Random
    limited: SimulatedCounts  # the counts that the limit applies to
    slots: Slots
    outage_ends_at: float  # seconds of `time.monotonic`

    @property
    def is_full(self) -> bool:
        limit = self.behaviour.limit
        return limit is not None and self.limited.in_flight >= limit

    @property
    def has_outage(self) -> bool:
        return self.behaviour.outage is not None and time.monotonic() < self.outage_ends_at


class BehaviourStates:
    def __init__(self) -> None:
        self._slots: dict[tuple[str, ...], Slots] = {}

    def configure(self, behaviour: Behaviour, statistics: Statistics) -> None:
        """Replaces the behaviour. An outage begins now; calls keep the slots that they have."""
        self._of_dialect: dict[str, BehaviourState] = {}
        self._of_model: dict[tuple[str, str], BehaviourState] = {}
        for dialect in DIALECTS:
            own = behaviour.by_dialect.get(dialect)
            limited = statistics.by_dialect[dialect] if own else statistics
            name = (dialect,) if own else ()
            self._of_dialect[dialect] = self._state(own or behaviour, limited, *name)
            for model, of_model in (own or behaviour).by_model.items():
                self._of_model[dialect, model] = self._state(
                    of_model, statistics.by_model[model], *name, "model", model
                )

    def of(self, dialect: str, model: str | None = None) -> BehaviourState:
        """Returns the state for the model; the dialect's state if the model has none.

        model: None if the body of the call could not be read.
        """
        own = self._of_model.get((dialect, model)) if model is not None else None
        return own or self._of_dialect[dialect]

    def _state(self, behaviour: Behaviour, limited: SimulatedCounts, *name: str) -> BehaviourState:
        slots = self._slots.setdefault(name, Slots())
        slots.resize(behaviour.slots)
        outage_s = (behaviour.outage and behaviour.outage.seconds) or float("inf")
        return BehaviourState(
            behaviour,
            fault_shares(behaviour),
            random.Random(behaviour.seed),  # noqa: S311 - reproducible on purpose
            limited,
            slots,
            time.monotonic() + outage_s,
        )
