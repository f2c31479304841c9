"""Defines the Prometheus metrics that the API and the workers have in common."""

from prometheus_client import CollectorRegistry, Info, ProcessCollector

from shared.version import VERSION

MAX_MODELS = 100
OTHER_MODELS = "other"


class ModelLabels:
    """Limits the number of label values for models, because clients choose the names of models."""

    def __init__(self, limit: int = MAX_MODELS) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def label(self, model: str) -> str:
        """Returns the model, or `OTHER_MODELS` if the model is new and the limit is reached."""
        if model not in self._known:
            if len(self._known) >= self._limit:
                return OTHER_MODELS
            self._known.add(model)
        return model


def new_registry() -> CollectorRegistry:
    """Returns a registry with the version, the CPU time, the memory and the open files of this
    process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Info("orchestrator_build", "Version of this process.", registry=registry)
    build.info({"version": VERSION})
    return registry
