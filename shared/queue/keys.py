"""Defines every Redis key and channel of the project, and the names that the Lua scripts use.

Each key is written down once, as an attribute of `Keys`. Its name in Redis is the attribute's name
behind the prefix; in the scripts it is a constant with the attribute's name in upper case.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

LAYOUT_VERSION = 2  # raise it whenever keys, fields or their meaning change (see layout.py)


class _KeyWithId:
    """A key for each id, or for each of several ids: `keys.queue(lane, job_id)`."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, _owner: type, name: str) -> None:
        self.suffix = f"{name}:"

    def __get__(self, keys: "Keys", _owner: type) -> Callable[..., str]:
        return lambda *ids: f"{keys.prefix}{self.suffix}{':'.join(map(str, ids))}"


class _Key:
    """A key or channel of which there is one per deployment."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, _owner: type, name: str) -> None:
        self.suffix = name

    def __get__(self, keys: "Keys", _owner: type) -> str:
        return f"{keys.prefix}{self.suffix}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one deployment; deployments with different prefixes share nothing in a Redis."""

    prefix: str = "orchestrator:"

    layout_version = _Key("string: LAYOUT_VERSION of the deployment that writes here")

    # One per job, by job id
    job = _KeyWithId(
        "hash: total, owner, priority_class, lanes, items_by_lane (JSON), result_ttl_s,"
        " accepted_ms, started_ms, finished_ms, finished_early_as, …; meta:<n>: request id,"
        " provider and model of 500 items (JSON)"
    )
    payloads = _KeyWithId("hash: item index → payload; deleted when the item has its answer")
    attempts = _KeyWithId("hash: item index → failed attempts: see lua/lib/attempts.lua")
    results = _KeyWithId("hash: item index → '<finished_ms> <result as JSON>'; written once")
    completion_order = _KeyWithId("list: item indexes in the order in which they finished")
    failed = _KeyWithId("set: indexes of the items whose result is an error")

    # One per lane
    queue = _KeyWithId("zset, also by job id: indexes of the items that may run now")
    fair_queue = _KeyWithId(
        "zset: owners by the service they had; with an owner: classes; with a class: jobs"
    )
    depth = _KeyWithId("hash: owner → items of that owner in the lane's queues")
    quarantine = _KeyWithId(
        "zset: '<job>:<index>' of items that one more lost worker would end, by acceptance time"
    )
    deferred = _KeyWithId("zset: '<job>:<index>' of items that wait for a retry, by due time")
    leases = _KeyWithId("zset: '<job>:<index>@<claim>' by lease end; its size: calls in flight")
    pause = _KeyWithId("hash: until_ms, reason; it expires with the pause")

    job_deadlines = _Key("zset: job ids by deadline")
    jobs_by_owner = _KeyWithId("zset, by owner: job ids by acceptance time")
    job_expirations = _Key("zset: '<owner> <job>' by the time when the results expire")
    idempotency = _KeyWithId("string, by owner and key: '<fingerprint> <job>'")
    workers = _Key("zset: worker ids by the time after which a worker counts as lost")

    # Monitoring only: nothing is decided by these
    worker_last_seen = _Key("zset: worker ids by the time of their last report")
    worker_report = _KeyWithId("string, by worker id: '<time> <report as JSON>'")
    history = _KeyWithId("hash, by start in s: counters, calls in flight and queue depth of 10 s")

    # Channels
    wake = _Key("channel: something may be claimed")
    job_cancelled = _Key("channel: id of a job whose running calls must stop")
    job_finished = _Key("channel: id of a job that has finished")
    job_progress = _Key("channel: id of a followed job of which items have finished")

    @classmethod
    def names(cls) -> frozenset[str]:
        """Returns the names that stand behind the prefix, without ids."""
        return frozenset(
            name for name, key in vars(cls).items() if isinstance(key, _Key | _KeyWithId)
        )

    def lua_constants(self, script: str) -> str:
        """Returns Lua locals for the keys that `script` uses; it appends the ids itself."""
        layout = f"local LAYOUT = {LAYOUT_VERSION}\n" if re.search(r"\bLAYOUT\b", script) else ""
        return layout + "".join(
            f"local {name.upper()} = {lua_string(self.prefix + key.suffix)}\n"
            for name, key in vars(Keys).items()
            if isinstance(key, _Key | _KeyWithId) and re.search(rf"\b{name.upper()}\b", script)
        )


def lua_string(text: str) -> str:
    r"""Returns a Lua 5.1 string literal; every byte outside [A-Za-z0-9:_-] is a decimal escape."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_-"
    escaped = (chr(byte) if byte in plain else f"\\{byte:03d}" for byte in text.encode())
    return f'"{"".join(escaped)}"'
