"""What API and workers have in common of their Prometheus metrics."""

from prometheus_client import CollectorRegistry, ProcessCollector

MODELS = 100  # that a process tells apart: they are the users' words
OTHER_MODELS = "other"


class Models:
    """Names of models with a bound."""

    def __init__(self, most: int = MODELS) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, model: str) -> str:
        if model not in self._known:
            if len(self._known) >= self._most:
                return OTHER_MODELS
            self._known.add(model)
        return model


def new_registry() -> CollectorRegistry:
    """With CPU, memory and files of this process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry
