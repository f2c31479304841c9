"""Defines what a worker sends with a claim: its limits and its free slots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import orjson

from shared.providers.model_limits import ModelLimits, lua_pattern
from shared.providers.provider_row import provider_of


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits the calls of a lane in addition to the limit of running items.

    adaptive: whether the limit of running items adapts: see lua/lib/adaptive_limit.lua.
    per_account: whether the rates limit all models together; if not, they limit each model.
    counts_refused: whether the provider counts the calls that it refuses.
    reserves_output: whether the provider counts a request's limit of output tokens, such as
        `max_tokens`, when the call starts.
    rpm, tpm, rpd: requests and tokens a minute, requests a day; None if there is no such limit.
    models: limits of single models.
    """

    adaptive: bool = False
    per_account: bool = False
    counts_refused: bool = False
    reserves_output: bool = False
    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    models: tuple[ModelLimits, ...] = ()

    @property
    def flags(self) -> str:
        """Returns the rules as letters, which lua/lib/lane_limits.lua explains."""
        return (
            ("d" if self.adaptive else "")
            + ("a" if self.per_account else "")
            + ("c" if self.counts_refused else "")
            + ("o" if self.reserves_output else "")
            + ("r" if self.to_dict() else "")
        )

    def shown(self) -> dict[str, object]:
        """Returns the limits that reports show: `adaptive`, the rates, and the models' limits."""
        models = {one.pattern: _model_rule(one) for one in self.models}
        for fields in models.values():
            fields.pop("name")
            fields.pop("pattern", None)
        rates = {"rpm": self.rpm, "tpm": self.tpm, "rpd": self.rpd}
        shown = {"adaptive": self.adaptive or None, **rates, "models": models or None}
        return {name: value for name, value in shown.items() if value is not None}

    def to_dict(self) -> dict[str, object]:
        fields: dict[str, object] = {"rpm": self.rpm, "tpm": self.tpm, "rpd": self.rpd}
        fields["models"] = [_model_rule(limits) for limits in self.models] or None
        return {name: value for name, value in fields.items() if value is not None}


def _model_rule(limits: ModelLimits) -> dict[str, object]:
    fields = {
        "name": limits.pattern,
        "pattern": lua_pattern(limits.pattern) if set(limits.pattern) & set("*?[") else None,
        "concurrency": limits.max_concurrent_requests,
        "rpm": limits.rpm,
        "tpm": limits.tpm,
        "rpd": limits.rpd,
    }
    return {name: value for name, value in fields.items() if value is not None}


_NO_RULES = Rules()


@dataclass(frozen=True, slots=True)
class ServedBy:
    """Names a deployment of a lane: a provider's account, and the model that the account gets.

    model: "" if the lane is not an alias: each item names its model.
    weight: share of the lane's items, relative to the weights of the lane's other deployments.
    """

    account: str
    model: str = ""
    weight: int = 1


class Limits:
    """Holds the lanes that a worker serves, and for each lane how many items may run at once.

    A limit holds for all workers together.
    """

    def __init__(
        self,
        by_lane: Mapping[str, int],
        rules: Mapping[str, Rules] = MappingProxyType({}),
        served_by: Mapping[str, Sequence[ServedBy]] = MappingProxyType({}),
    ) -> None:
        """Creates the limits.

        by_lane: number of items that may run at once. rules: further limits, by provider.
        served_by: the deployments of a lane, if it is an alias or a provider with several keys. The
            limit of an alias is the sum of the limits of its providers. `by_lane` does not change
            it.
        """
        self.by_lane = by_lane
        self.shown_rules = _shown(rules, served_by)
        # Encoded once, because a worker sends its limits in every round.
        lanes = (
            f"{lane}={limit}{rules.get(lane, _NO_RULES).flags}{'p' if lane in served_by else ''}"
            for lane, limit in by_lane.items()
        )
        self.encoded = f" {' '.join(lanes)} ".encode()
        encoded_rules = {lane: fields for lane in rules if (fields := rules[lane].to_dict())}
        self.encoded_rules = orjson.dumps(encoded_rules) if encoded_rules else b""
        self.encoded_deployments = (
            orjson.dumps({lane: list(served_by[lane]) for lane in served_by}) if served_by else b""
        )


def _shown(
    rules: Mapping[str, Rules], served_by: Mapping[str, Sequence[ServedBy]]
) -> dict[str, dict[str, object]]:
    """Returns the limits as reports show them, by lane.

    shared.monitoring.deployment_pools reads `keys` and `deployments`.
    """
    shown = {lane: found for lane in rules if (found := rules[lane].shown())}
    for lane, deployments in served_by.items():
        if lane in rules:
            shown[lane] = {**shown.get(lane, {}), "keys": len(deployments)}
        else:
            names = (f"{provider_of(one.account)}/{one.model.lower()}" for one in deployments)
            shown[lane] = {"deployments": list(dict.fromkeys(names))}
    return shown


@dataclass(frozen=True, slots=True)
class Capacity:
    """Holds a worker's limits, running items and free slots for a claim."""

    limits: Limits
    running: Mapping[str, int]  # lane → number of items that this worker runs, if it runs any
    free_slots: int  # number of items that this worker can still take
    quarantined: int = 0  # number of quarantined items that this worker runs
    worker_id: str = "worker"  # each worker needs its own id

    def argv(self) -> tuple[str | bytes | int, ...]:
        running = [part for lane_count in self.running.items() for part in lane_count]
        return (
            self.limits.encoded,
            self.limits.encoded_rules,
            self.limits.encoded_deployments,
            len(self.limits.by_lane),
            self.free_slots,
            self.quarantined,
            len(self.running),
            self.worker_id,
            *running,
        )
