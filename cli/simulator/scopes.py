"""Defines which calls share a budget or a window, and keeps one state for each of these groups."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from cli.simulator.connection import Headers

Scope = Literal["account", "key", "model"]

_MAX_STATES = 10_000

Config = TypeVar("Config")
State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class SimulatedRefusal:
    """Describes an answer that a call gets instead of being worked on."""

    status: int
    message: str
    headers: Headers = ()
    delay_ms: float = 0


def scope_name(scope: Scope, key: str, model: str) -> str:
    return {"account": "account", "key": key, "model": model}[scope]


class Scoped(Generic[Config, State]):
    """Keeps the state of each configuration and group, at most 10,000 states.

    If an equal configuration is set later, its state continues. A new state replaces the oldest.
    """

    def __init__(self, create: Callable[[Config], State]) -> None:
        self._create = create
        self._states: dict[tuple[Config, str], State] = {}

    def of(self, config: Config, name: str) -> State:
        if (config, name) not in self._states:
            if len(self._states) >= _MAX_STATES:
                del self._states[next(iter(self._states))]
            self._states[config, name] = self._create(config)
        return self._states[config, name]

    def all(self) -> list[tuple[str, State]]:
        return [(name, state) for (_, name), state in self._states.items()]

    def clear(self) -> None:
        self._states.clear()
