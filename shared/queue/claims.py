"""Claims items from the durable queue and settles their leases, for workers.

An item is in exactly one place, and only the scripts in `lua/` move items:

    accept → QUEUE ──claim──▶ LEASES ──complete, fail──▶ RESULTS
               ▲               │  │
               └── release, ───┘  └── retry ──▶ DEFERRED ── when due ──▶ QUEUE
                   expire
    cancel, deadline: the job ends early; its items without a result finish, and leave QUEUE

An item that has lost MAX_WORKER_LOSSES - 1 workers waits in QUARANTINE instead of QUEUE. If the
item loses one more worker, it fails. A worker runs only one quarantined item at a time, so that an
item that crashes the worker cannot make other quarantined items fail.

Invariants: No claim gives a lane more leases than its limit. A result is written once. Settling a
lease that has expired or was settled before changes no item. Every lane that has an item is in the
index ACTIVE_LANES, because a round looks only at the lanes in this index. A model or a provider
that does not work gets at most one call at a time: see lua/lib/health_records.lua.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.models import ErrorCode
from shared.queue import item_results
from shared.queue.capacity import Capacity
from shared.queue.ids import ItemId, LeaseId
from shared.queue.leases import MAX_WORKER_LOSSES, Lease, Settlement
from shared.queue.redis_keys import Keys
from shared.queue.scripts import load_script
from shared.queue.setting_defaults import INTERACTIVE_WEIGHT, OUTAGE_WAIT_S

# Limits of one run of a script, because Redis does nothing else meanwhile
MAX_RENEWED = 500  # leases
MAX_SETTLEMENTS = 64
MAX_CLAIM = 50  # items per round, so that other workers get some items of a large job


@dataclass(frozen=True, slots=True)
class FailedItem:
    """Describes an item that the script has finished with an error."""

    lane: str
    model: str
    error_code: ErrorCode
    queued_ms: float


@dataclass(frozen=True, slots=True)
class Claimed:
    leases: list[Lease]
    failed: list[FailedItem]
    # Time until the next round has something to do, even without a wake message; None if unknown.
    next_round_s: float | None


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
                "WAITED_RESULT": item_results.WAITED_TOO_LONG.to_json().decode(),
            },
        )
        self._renew = load_script(redis, keys, "renew")
        self._expire_overdue = load_script(
            redis, keys, "expire_overdue", {"LEASE_MS": self._lease_ms}
        )

    async def settle_and_claim(
        self, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        """Settles leases, and claims items in the same atomic step.

        Without a capacity, the call claims no item; if it frees a slot, it wakes the other workers.
        Repeating a settlement changes nothing.
        """
        args: list[str | bytes | float] = [*(capacity.argv() if capacity else _CLAIM_NOTHING)]
        for settlement in settlements:
            args += settlement.argv()
        reply = await self._settle_and_claim(args=args)
        next_round_ms, claimed, failures, longer_time_outs = reply
        factors = dict(longer_time_outs)
        leases = [_lease(*fields, timeout_factor=factors.get(fields[1], 1)) for fields in claimed]
        failed = [
            FailedItem(lane.decode(), model.decode(), _error_code(code.decode()), float(queued_ms))
            for lane, model, code, queued_ms in failures
        ]
        return Claimed(leases, failed, float(next_round_ms) / 1000 if next_round_ms else None)

    async def renew(self, worker_id: str, leases: Iterable[Lease]) -> set[LeaseId]:
        """Renews the leases and marks the worker as alive.

        Returns the ids of the leases whose calls must stop.
        """
        argv = [part for lease in leases for part in (lease.lane, lease.lease_id)]
        stop: set[LeaseId] = set()
        for start in range(0, max(1, len(argv)), 2 * MAX_RENEWED):
            part = argv[start : start + 2 * MAX_RENEWED]
            reply = await self._renew(args=[worker_id, self._lease_ms, *part])
            stop |= {LeaseId(lease_id.decode()) for lease_id in reply}
        return stop

    async def expire_overdue(self) -> bool:
        """Ends overdue jobs, and forgets expired jobs and files: see lua/expire_overdue.lua.

        One call does limited work. Returns whether the caller must call again immediately.
        """
        return bool(await self._expire_overdue())

    async def workers(self) -> list[str]:
        """Returns the ids of the workers that are not lost."""
        seconds, microseconds = await self._redis.time()
        now_ms = seconds * 1000 + microseconds / 1000
        alive = await self._redis.zrangebyscore(self._keys.workers, now_ms, "+inf")
        return [worker_id.decode() for worker_id in alive]

    async def unregister_worker(self, worker_id: str) -> None:
        await self._redis.zrem(self._keys.workers, worker_id)


def _error_code(code: str) -> ErrorCode:
    """Returns the error code. A code that only a newer version knows becomes INTERNAL_ERROR."""
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
    owner: bytes,
    *,
    timeout_factor: int,
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
        owner=owner.decode(),
        timeout_factor=timeout_factor,
    )
