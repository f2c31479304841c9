"""The Prometheus metrics that API and workers have in common."""

from prometheus_client import CollectorRegistry, ProcessCollector

MAX_MODELS = 100
OTHER_MODELS = "other"


class ModelLabels:
    """Bounds the label values for models, because clients choose the names of models."""

    def __init__(self, limit: int = MAX_MODELS) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def label(self, model: str) -> str:
        """Return the model, or `OTHER_MODELS` for a new one when the limit is reached."""
        if model not in self._known:
            if len(self._known) >= self._limit:
                return OTHER_MODELS
            self._known.add(model)
        return model


def new_registry() -> CollectorRegistry:
    """Create a registry with the CPU time, memory and open files of this process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry
