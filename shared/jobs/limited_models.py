"""Says which models have a limit of their own, and so need a queue of their own in a job."""

from collections.abc import Collection, Mapping, Sequence

from shared.providers.model_limits import ModelLimits, limits_of

ModelsByProvider = Mapping[str, Sequence[ModelLimits]]


class LimitedModels:
    """Finds the models that have a limit in the providers file, or that got a limit at run time.

    configured: the limits of models in the providers file, by provider.
    set_names: the names that got a limit at run time. Of these, only `provider/model` is a model;
        other names are ignored.
    """

    def __init__(self, configured: ModelsByProvider, set_names: Collection[str]) -> None:
        self._configured = configured
        self._set = {name for name in set_names if "/" in name}

    def __len__(self) -> int:
        return len(self._set) + sum(map(len, self._configured.values()))

    def limiter(self, lane: str, model: str) -> str | None:
        """Returns the name of the limit that applies to a model; None if the model has no limit.

        The name is the model's name in lower case, or the pattern in the providers file that
        matches the model.
        """
        name = model.lower()
        if f"{lane}/{name}" in self._set:
            return name
        limits = limits_of(self._configured.get(lane, ()), name)
        return limits.pattern if limits else None
