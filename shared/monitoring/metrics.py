"""Defines the Prometheus metrics that the API and the workers have in common."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Info, ProcessCollector

from shared.version import VERSION

MAX_MODEL_LABELS = 100
OTHER_MODELS = "other"


@dataclass(slots=True)
class _Known:
    owner: str
    is_served: bool = False  # whether the provider has answered a call to the model


class ModelLabels:
    """Limits the number of models that are labels, because a client can send any name.

    If a new name has no room, the owner with the most names loses the name that was seen least
    recently; names of calls that no provider has answered go first. If the new name belongs to this
    owner and its own call was not answered, it does not replace a name whose call was answered: its
    label is `other`.
    """

    def __init__(
        self, limit: int = MAX_MODEL_LABELS, forget: Callable[[str], None] = lambda _: None
    ) -> None:
        """Begins without labels. `forget` is called with each name that is no longer a label."""
        self._limit = limit
        self._forget = forget
        self._known: dict[str, _Known] = {}  # the least recently seen name is first
        self._by_owner = Counter[str]()

    def label(self, model: str, owner: str = "", *, is_served: bool = True) -> str:
        """Makes the model a label, and returns it. Returns `OTHER_MODELS` if there is no room.

        is_served: whether a provider has just answered a call to the model.
        """
        known = self._known.pop(model, None)
        if known is None:
            if len(self._known) >= self._limit and not self._make_room(owner, is_served=is_served):
                return OTHER_MODELS
            known = _Known(owner)
            self._by_owner[owner] += 1
        known.is_served |= is_served
        self._known[model] = known
        return model

    def __contains__(self, model: str) -> bool:
        return model in self._known

    def _make_room(self, owner: str, *, is_served: bool) -> bool:
        """Removes a name to make room for a new one. Returns False if no name may be removed."""
        most = max(self._by_owner, key=lambda other: (self._by_owner[other], other == owner))
        names = [name for name, known in self._known.items() if known.owner == most]
        unserved = (name for name in names if not self._known[name].is_served)
        may_replace_served = is_served or most != owner
        name = next(unserved, names[0] if may_replace_served else None)
        if name is None:
            return False
        del self._known[name]
        self._by_owner[most] -= 1
        if not self._by_owner[most]:
            del self._by_owner[most]
        self._forget(name)
        return True


def new_registry() -> CollectorRegistry:
    """Returns a registry with the version, the CPU time, the memory and the open files of this
    process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Info("orchestrator_build", "Version of this process.", registry=registry)
    build.info({"version": VERSION})
    return registry
