"""Reads the limits of providers and models: where each limit comes from, and which limits are in
force."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any

import orjson
from redis.asyncio import Redis

from shared.queue.redis_keys import Keys
from shared.queue.scripts import ADAPTIVE_START
from shared.redis.clock import utc

LIMITS = ("concurrency", "rpm", "tpm", "rpd")

Values = dict[str, int]  # by a name in LIMITS


@dataclass(slots=True)
class NamedLimits:
    """Holds the limits of a provider, of one of its models, or of a pattern of its models.

    name: the provider's name, `provider/model` or `provider/pattern`. Announced limits of a further
        key have its account, such as `provider#2/model`.
    configured: the limits that workers have in their settings, each with the ids of the workers.
        If there is more than one entry, the workers disagree.
    set: the limits that were set with `orchestrator limits set`.
    set_until: the time when `set` ends; None if `set` does not end or is empty.
    announced: the limits that the provider announced in the headers of a response.
    adapted: the adapted limit of the calls that run at once; None if the limit does not adapt.
    in_force: the limits that are in force. If workers disagree, each worker keeps to its own limit,
        and this field has the highest limit.
    """

    name: str
    configured: list[tuple[Values, list[str]]] = field(default_factory=list)
    set: Values = field(default_factory=dict)
    set_until: datetime | None = None
    announced: Values = field(default_factory=dict)
    adapted: int | None = None
    in_force: Values = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "configured": [
                {"limits": values, "workers": workers} for values, workers in self.configured
            ],
            "set": self.set,
            "set_until": self.set_until,
            "announced": self.announced,
            "adapted": self.adapted,
            "in_force": self.in_force,
        }


async def read_limits(redis: Redis, keys: Keys) -> list[NamedLimits]:
    """Returns the limits of the providers and models that have limits, in the order of their names.

    Raises RedisUnavailable.
    """
    pipe = redis.pipeline(transaction=False)
    pipe.time()
    for key in (keys.limits, keys.learned, keys.caps):
        pipe.hgetall(key)
    pipe.zrange(keys.workers, 0, -1)
    (seconds, _), *stored, workers = await pipe.execute()
    names = [worker.decode() for worker in workers]
    texts = await redis.mget([keys.worker_report(name) for name in names]) if names else []
    reports = {
        name: orjson.loads(text.split(b" ", 2)[2])
        for name, text in zip(names, texts, strict=True)
        if text
    }
    set_limits, announced, caps = (
        {name.decode(): orjson.loads(value) for name, value in found.items()} for found in stored
    )
    return limits_of(reports, set_limits, announced, caps, now_ms=seconds * 1000)


def limits_of(
    reports: Mapping[str, Mapping[str, Any]],
    set_limits: Mapping[str, Mapping[str, Any]],
    announced: Mapping[str, Mapping[str, Any]],
    caps: Mapping[str, Mapping[str, Any]],
    *,
    now_ms: float,
) -> list[NamedLimits]:
    """Returns the limits, in the order of their names.

    reports: the report of each worker, by the worker's id.
    set_limits, announced, caps: the values in the hashes `limits`, `learned` and `caps` of Redis,
        by their names there: see shared.queue.redis_keys.
    """
    found = _of_workers(reports)
    adaptive = {
        lane
        for report in reports.values()
        for lane, rules in report.get("rules", {}).items()
        if "adaptive" in rules
    }

    def named(name: str) -> NamedLimits:
        return found.setdefault(name, NamedLimits(name))

    for name, stored in _current(set_limits, now_ms):
        named(name).set = _values(stored)
        until_ms = stored.get("until_ms")
        named(name).set_until = utc(until_ms / 1000) if until_ms else None
    for name, stored in _current(announced, now_ms):
        named(name).announced = _values(stored)
    for name in adaptive | caps.keys():
        cap = caps.get(name, {}).get("cap", ADAPTIVE_START if name in adaptive else None)
        if cap is not None:
            named(name).adapted = max(1, int(cap))
    for limits in found.values():
        limits.in_force = _in_force(limits)
    return [found[name] for name in sorted(found)]


def limit_in_force(
    configured: int | None, set_limits: bytes | None, cap: bytes | None, now_s: float
) -> int | None:
    """Returns a provider's limit of running calls that is in force; None without `configured`.

    lua/lib/limits_in_force.lua does the same.

    configured: the limit that a worker reported.
    set_limits, cap: the JSON that the hashes `limits` and `caps` of Redis have for the provider;
        None if there is none.
    """
    if configured is None:
        return None
    found = orjson.loads(set_limits) if set_limits else {}
    limit: int = configured
    if found.get("until_ms", inf) > now_s * 1000:
        limit = found.get("concurrency", configured)
    adapted = orjson.loads(cap).get("cap") if cap else None
    return limit if adapted is None else min(limit, max(1, int(adapted)))


def _of_workers(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, NamedLimits]:
    by_worker = {worker: dict(_configured(report)) for worker, report in sorted(reports.items())}
    names = dict.fromkeys(name for configured in by_worker.values() for name in configured)
    found = {name: NamedLimits(name) for name in names}
    for worker, configured in by_worker.items():
        for name, limits in found.items():
            if name in configured:
                _add(limits.configured, configured[name], worker)
            elif name.partition("/")[0] in configured:
                _add(limits.configured, {}, worker)  # a model that other workers limit
    return found


def _configured(report: Mapping[str, Any]) -> Iterable[tuple[str, Values]]:
    rules = report.get("rules", {})
    for lane, concurrency in report["limits"].items():
        if lane.startswith("@"):
            continue  # an alias has the limits of its providers
        of_lane = rules.get(lane, {})
        yield lane, {"concurrency": concurrency, **_values(of_lane)}
        for model, values in of_lane.get("models", {}).items():
            yield f"{lane}/{model}", _values(values)


def _add(configured: list[tuple[Values, list[str]]], values: Values, worker: str) -> None:
    for others, workers in configured:
        if others == values:
            workers.append(worker)
            return
    configured.append((values, [worker]))


def _current(
    stored: Mapping[str, Mapping[str, Any]], now_ms: float
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return ((name, one) for name, one in stored.items() if one.get("until_ms", inf) > now_ms)


def _values(found: Mapping[str, Any]) -> Values:
    return {name: int(found[name]) for name in LIMITS if name in found}


def _in_force(limits: NamedLimits) -> Values:
    highest: Values = {}
    for values, _ in limits.configured:
        highest |= {name: max(value, highest.get(name, 0)) for name, value in values.items()}
    in_force = {**limits.announced, **highest, **limits.set}
    if limits.adapted is not None and "concurrency" in in_force:
        in_force["concurrency"] = min(in_force["concurrency"], limits.adapted)
    return {name: in_force[name] for name in LIMITS if name in in_force}
