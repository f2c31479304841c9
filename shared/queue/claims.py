"""Claims items from the durable queue and settles their leases, for workers.

An item is in exactly one place, and only the scripts in `lua/` move items:

    accept → QUEUE ──claim──▶ LEASES ──complete, fail──▶ RESULTS
               ▲               │  │
               └── release, ───┘  └── retry ──▶ DEFERRED ── when due ──▶ QUEUE
                   expire
    cancel, deadline: the job ends early, and so do its items that have no result

An item that has lost MAX_WORKER_LOSSES - 1 workers waits in QUARANTINE instead of QUEUE. If the
item loses one more worker, it fails. A worker runs only one quarantined item at a time, so that an
item that crashes the worker cannot make other quarantined items fail.

Invariants: A lane never has more leases than its limit. A result is written once. Settling a lease
that has expired or was settled before changes no item. A lane with an item is in the index of
ACTIVE_LANES: a round looks only at the lanes in the index.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import orjson
from redis.asyncio import Redis

from shared.models import ErrorCode
from shared.providers.model_limits import ModelLimits, lua_pattern
from shared.queue import item_results
from shared.queue.ids import ItemId, LeaseId
from shared.queue.keys import Keys
from shared.queue.scripts import load_script

MAX_WORKER_LOSSES = 3  # an item that lost this many workers in one attempt fails
INTERACTIVE_WEIGHT = 4  # interactive items that are served for each bulk item of the same owner
OUTAGE_WAIT_S: float = 86_400  # time for which an item waits for a provider that does not answer
MAX_CLAIM = 50  # limit of items per round, so that other workers get some items of a large job
Outcome = Literal["complete", "fail", "retry", "release"]  # see Settlement


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of a claimed item to run until the lease expires.

    Each lease uses one slot of the lane's limit.
    """

    item_id: ItemId
    lease_id: LeaseId
    lane: str
    payload: bytes
    attempts: int  # number of failed attempts before this one that count
    worker_losses: int  # number of workers lost during this attempt
    queued_ms: float  # time from the acceptance of the job to this claim
    uncounted: int = 0  # number of failed attempts because of faults of the provider
    retried_ms: float = 0  # the part of queued_ms after the first claim
    remaining_ms: float | None = None  # time until the job's deadline; None without a deadline
    account: str = ""  # the key to use: see shared.providers.row.account
    model: str = ""  # the model that the account gets; "" for the model that the item names
    tried: bytes = b""  # what was tried before, as JSON; b"" if the item has not moved
    patience: int = 1  # factor of the call's time-out; above 1 for a probe after time-outs

    @property
    def job_id(self) -> str:
        return self.item_id.job_id

    @property
    def quarantined(self) -> bool:
        return self.worker_losses >= MAX_WORKER_LOSSES - 1


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item that the script has finished with an error."""

    lane: str
    route: str
    error_code: ErrorCode
    queued_ms: float


@dataclass(frozen=True, slots=True)
class Claimed:
    leases: list[Lease]
    failed: list[FailedItem]
    # Time until the next round has something to do, even without a wake message; None if unknown.
    next_round_s: float | None


@dataclass(frozen=True, slots=True)
class Fault:
    """How a call to a provider failed. lua/lib/health.lua decides what that means for other items.

    verdict: a value of worker.providers.errors.Verdict.
    reason: every owner can read the reason, so it never contains text from a provider.
    code, status_code: the error code and the HTTP status for items that are not sent because of the
        fault.
    wait_s: time after which the provider takes calls again; None if it names no time.
    covers_account: whether the refusal is about the account and not about one model.
    """

    verdict: str
    reason: str
    code: str
    status_code: int | None = None
    wait_s: float | None = None
    covers_account: bool = False

    def to_json(self) -> bytes:
        fields = {
            "verdict": self.verdict,
            "reason": self.reason,
            "code": self.code,
            "status": self.status_code,
            "wait_ms": None if self.wait_s is None else self.wait_s * 1000,
            "covers_account": self.covers_account or None,
        }
        return orjson.dumps({name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Announced:
    """A rate limit that a provider has announced, and what is left of it."""

    limit: float
    left: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of a call as the provider counts them for its limits, and its announced limits.

    announced: by `rpm`, `tpm` and `rpd`.
    """

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    announced: Mapping[str, Announced] = field(default_factory=dict)

    def to_json(self) -> bytes:
        fields: dict[str, object] = {}
        if self.prompt_tokens is not None:
            fields |= {"prompt_tokens": self.prompt_tokens, "output_tokens": self.output_tokens}
        if self.announced:
            fields["announced"] = {
                rate: {"limit": limit.limit} | ({} if limit.left is None else {"left": limit.left})
                for rate, limit in self.announced.items()
            }
        return orjson.dumps(fields)


@dataclass(frozen=True, slots=True)
class Settlement:
    """Settles a lease with the outcome of its call.

    complete, fail   the item finishes with `result`; the provider call took `latency_ms`
    retry            the attempt failed; the item runs again after `delay_s`, or finishes with
                     `result` if `delay_s` is None. An attempt that failed because of a fault of the
                     provider is not counted: the item waits until the provider is healthy.
    release          the item was not run, or its call was stopped; no attempt is counted
    """

    lease: Lease
    outcome: Outcome
    result: bytes = b""
    latency_ms: float = 0
    delay_s: float | None = 0
    fault: Fault | None = None
    usage: Usage | None = None

    def argv(self) -> tuple[str | bytes | float, ...]:
        return (
            self.lease.lane,
            self.lease.lease_id,
            self.outcome,
            self.result,
            round(self.latency_ms * 1000),
            "" if self.delay_s is None else self.delay_s * 1000,
            self.fault.to_json() if self.fault else "",
            self.usage.to_json() if self.usage else "",
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """What limits the calls of a lane beside the limit of running items.

    adaptive: whether the limit of running items adapts.
    per_account: whether the rates limit all models together; if not, they limit each model.
    counts_refused: whether the provider counts the calls that it refuses.
    reserves_output: whether the provider counts the token limit of a request before the call.
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
        """Returns the flags that lua/lib/lane_limits.lua defines."""
        return (
            ("d" if self.adaptive else "")
            + ("a" if self.per_account else "")
            + ("c" if self.counts_refused else "")
            + ("o" if self.reserves_output else "")
            + ("r" if self.to_dict() else "")
        )

    def shown(self) -> dict[str, object]:
        """Returns the limits for a reader: `adaptive`, the rates, and by model the same names."""
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
    """A deployment of a lane: a provider's account, and for an alias the model that it gets."""

    account: str
    model: str = ""
    weight: int = 1


class Limits:
    """The lanes that a worker serves, with the limit of running items on all workers together."""

    def __init__(
        self,
        by_lane: Mapping[str, int],
        rules: Mapping[str, Rules] = MappingProxyType({}),
        served_by: Mapping[str, Sequence[ServedBy]] = MappingProxyType({}),
    ) -> None:
        """Creates the limits.

        served_by: the deployments of a lane, if it is an alias or a provider with several keys. The
            limit of an alias is the sum of the limits of its providers, whatever `by_lane` says.
        """
        self.by_lane = by_lane
        self.shown_rules = {lane: shown for lane in rules if (shown := rules[lane].shown())}
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


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a worker tells Redis before it claims: its limits, running items and free slots."""

    limits: Limits
    running: Mapping[str, int]  # lane → number of items that this worker runs, if it runs any
    free_slots: int  # number of items that this worker can still take
    quarantined: int = 0  # number of quarantined items that this worker runs
    worker_id: str = "worker"  # each worker has another id

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


_CLAIM_NOTHING = ("", "", "", 0, 0, 0, 0, "")


class Queue:
    """Calls the Lua scripts, with Python types for their arguments and replies.

    Raises RedisUnavailable.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        lease_s: float,
        interactive_weight: int = INTERACTIVE_WEIGHT,
        outage_wait_s: float = OUTAGE_WAIT_S,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._lease_ms = lease_s * 1000
        self._settle_and_claim = load_script(
            redis,
            keys,
            "settle_and_claim",
            {
                "LEASE_MS": self._lease_ms,
                "MAX_CLAIM": MAX_CLAIM,
                "INTERACTIVE_WEIGHT": interactive_weight,
                "MAX_WORKER_LOSSES": MAX_WORKER_LOSSES,
                "OUTAGE_WAIT_MS": outage_wait_s * 1000,
                "LOST_RESULT": item_results.WORKER_LOST.to_json().decode(),
                "BROKEN_STREAM_RESULT": item_results.BROKEN_STREAM.to_json().decode(),
            },
        )
        self._renew = load_script(redis, keys, "renew")
        self._expire_overdue = load_script(
            redis, keys, "expire_overdue", {"LEASE_MS": self._lease_ms}
        )

    async def settle_and_claim(
        self, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        """Settles leases, then claims the items that `capacity` allows, in one atomic step.

        Without a capacity, no item is claimed; if a slot became free, the other workers are woken.
        Repeating the settlements changes nothing.
        """
        reply = await self._settle_and_claim(
            args=[
                *(capacity.argv() if capacity else _CLAIM_NOTHING),
                *(part for settlement in settlements for part in settlement.argv()),
            ]
        )
        next_round_ms, values, failures, patience = reply
        leases = [_lease(*fields) for fields in zip(*[iter(values)] * 13, strict=True)]
        for lease_id, factor in zip(*[iter(patience)] * 2, strict=True):
            leases = [
                replace(lease, patience=factor) if lease.lease_id == lease_id.decode() else lease
                for lease in leases
            ]
        failed = [
            FailedItem(lane.decode(), route.decode(), _error_code(code.decode()), float(queued_ms))
            for lane, route, code, queued_ms in zip(*[iter(failures)] * 4, strict=True)
        ]
        return Claimed(leases, failed, float(next_round_ms) / 1000 if next_round_ms else None)

    async def renew(self, worker_id: str, leases: Iterable[Lease]) -> set[LeaseId]:
        """Renews the leases and marks the worker as alive.

        Returns the ids of the leases whose calls must stop.
        """
        argv = [part for lease in leases for part in (lease.lane, lease.lease_id)]
        stop = await self._renew(args=[worker_id, self._lease_ms, *argv])
        return {LeaseId(lease_id.decode()) for lease_id in stop}

    async def expire_overdue(self) -> None:
        """Ends the jobs whose deadline has passed.

        Workers do the same in each round, but there may be no worker.
        """
        await self._expire_overdue()

    async def workers(self) -> list[str]:
        """Returns the ids of the workers that are not lost."""
        seconds, microseconds = await self._redis.time()
        now_ms = seconds * 1000 + microseconds / 1000
        alive = await self._redis.zrangebyscore(self._keys.workers, now_ms, "+inf")
        return [worker_id.decode() for worker_id in alive]

    async def unregister_worker(self, worker_id: str) -> None:
        await self._redis.zrem(self._keys.workers, worker_id)


def _error_code(code: str) -> ErrorCode:
    """Returns the code. Workers of a newer version may have stored a code that is not known."""
    return ErrorCode(code) if code in set(ErrorCode) else ErrorCode.INTERNAL_ERROR


def _lease(
    item: bytes,
    lease: bytes,
    lane: bytes,
    payload: bytes,
    attempts: bytes,
    uncounted: int,
    first_claimed_us: bytes,
    worker_losses: int,
    queued_ms: bytes,
    remaining_ms: bytes,
    account: bytes,
    model: bytes,
    tried: bytes,
) -> Lease:
    lease_id = LeaseId(lease.decode())
    return Lease(
        item_id=ItemId(item.decode()),
        lease_id=lease_id,
        lane=lane.decode(),
        payload=payload,
        attempts=int(attempts),
        uncounted=uncounted,
        worker_losses=worker_losses,
        queued_ms=float(queued_ms),
        retried_ms=max(0, lease_id.claimed_us - int(first_claimed_us)) / 1000
        if first_claimed_us
        else 0,
        remaining_ms=float(remaining_ms) if remaining_ms else None,
        account=account.decode(),
        model=model.decode(),
        tried=tried,
    )
