"""The durable queue as workers see it: they claim items, each with a lease, and settle the leases.

An item is in exactly one place, and only the scripts in `lua/` move it:

    accept → QUEUE ──claim──▶ LEASES ──complete, fail──▶ RESULTS
               ▲  ▲             │ │
               │  └─ release,   │ └─ retry ─▶ DEFERRED ─ when due ─▶ QUEUE
               │     lease end ─┘
    cancel, deadline: the job finishes early, and with it the items that have no result

With one worker loss left before it is given up, an item waits in QUARANTINE instead of QUEUE. A
worker runs one of these at a time, so that an item that kills workers does not take its neighbours
with it.

Invariants: a lane never has more leases than its limit; a result is written once; a lease that is
not held any more changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis

from shared.queue import item_results
from shared.queue.ids import ItemId, LeaseId
from shared.queue.keys import Keys
from shared.queue.scripts import load_script

MAX_WORKER_LOSSES = 3  # an item that lost this many workers in one attempt is given up
INTERACTIVE_WEIGHT = 4  # of batches that somebody waits for, against 1 of bulk work
MAX_CLAIM = 50  # items of one round, so that other workers get a share of a large batch


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed item's right to run until a time: its slot of the lane's limit."""

    item_id: ItemId
    lease_id: LeaseId
    lane: str
    payload: bytes
    attempts: int  # that failed before this one
    worker_losses: int  # during this attempt
    queued_ms: float
    retried_ms: float = 0  # the part of queued_ms since the first attempt began
    remaining_ms: float | None = None  # until the job's deadline; None if it has none

    @property
    def job_id(self) -> str:
        return self.item_id.job_id

    @property
    def quarantined(self) -> bool:
        return self.worker_losses >= MAX_WORKER_LOSSES - 1


@dataclass(frozen=True, slots=True)
class Claimed:
    leases: list[Lease]
    next_round_s: float | None  # when something will change without a message; None if unknown


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait of the whole lane, on all workers."""

    seconds: float
    reason: str  # all owners see it, so it holds no text of a provider


@dataclass(frozen=True, slots=True)
class Settlement:
    """Ends a lease with its outcome.

    complete, fail   the item finishes with `result`; `latency_ms` is that of its call
    retry            an attempt failed; the item runs again after `delay_s`
    release          the item was not run, or was stopped: this costs no attempt
    """

    lease: Lease
    outcome: Literal["complete", "fail", "retry", "release"]
    result: bytes = b""
    latency_ms: float = 0
    delay_s: float = 0
    pause: Pause | None = None

    def argv(self) -> tuple[str | bytes | float, ...]:
        return (
            self.lease.lane,
            self.lease.lease_id,
            self.outcome,
            self.delay_s * 1000 if self.outcome == "retry" else self.result,
            round(self.latency_ms * 1000),
            self.pause.seconds * 1000 if self.pause else 0,
            self.pause.reason if self.pause else "",
        )


@dataclass(frozen=True, slots=True)
class Capacity:
    """The work that a worker can take in one round."""

    limits: Mapping[str, int]  # by lane, over all workers
    running: Mapping[str, int]  # by lane, in this worker
    free_slots: int  # of this worker
    reserve: int  # slots that it keeps free for each lane
    quarantined: int = 0  # items from the quarantine that it runs


_NONE = Capacity(limits={}, running={}, free_slots=0, reserve=0)


class Queue:
    """Runs the scripts with Python types. Raises RedisUnavailable."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        lease_s: float,
        interactive_weight: int = INTERACTIVE_WEIGHT,
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
                "LOST_RESULT": item_results.WORKER_LOST.to_json().decode(),
            },
        )
        self._renew = load_script(redis, keys, "renew")
        self._expire_overdue = load_script(redis, keys, "expire_overdue")

    async def settle_and_claim(
        self, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        """Settles leases, then claims what `capacity` has room for, in one atomic step.

        Without a capacity it claims nothing and wakes the other workers instead. Repeating the
        settlements changes nothing.
        """
        capacity = capacity or _NONE
        lanes = [
            part
            for lane, limit in capacity.limits.items()
            for part in (lane, limit, capacity.running.get(lane, 0))
        ]
        reply = await self._settle_and_claim(
            args=[
                capacity.free_slots,
                capacity.reserve,
                capacity.quarantined,
                len(capacity.limits),
                *lanes,
                *(part for settlement in settlements for part in settlement.argv()),
            ]
        )
        next_round_ms, values = reply
        leases = [_lease(*fields) for fields in zip(*[iter(values)] * 9, strict=True)]
        return Claimed(leases, float(next_round_ms) / 1000 if next_round_ms else None)

    async def renew(self, worker_id: str, leases: Iterable[Lease]) -> set[LeaseId]:
        """Renews leases and the worker's own life. Returns the leases whose calls must stop."""
        argv = [part for lease in leases for part in (lease.lane, lease.lease_id)]
        stop = await self._renew(args=[worker_id, self._lease_ms, *argv])
        return {LeaseId(lease_id.decode()) for lease_id in stop}

    async def expire_overdue(self) -> None:
        """Finishes jobs past their deadlines, which workers do, too: there may be none."""
        await self._expire_overdue()

    async def workers(self) -> list[str]:
        """Returns the ids of the workers that are alive."""
        seconds, microseconds = await self._redis.time()
        now_ms = seconds * 1000 + microseconds / 1000
        alive = await self._redis.zrangebyscore(self._keys.workers, now_ms, "+inf")
        return [worker_id.decode() for worker_id in alive]

    async def unregister_worker(self, worker_id: str) -> None:
        await self._redis.zrem(self._keys.workers, worker_id)


def _lease(
    item: bytes,
    lease: bytes,
    lane: bytes,
    payload: bytes,
    attempts: bytes,
    first_claim_us: bytes,
    worker_losses: int,
    queued_ms: bytes,
    remaining_ms: bytes,
) -> Lease:
    lease_id = LeaseId(lease.decode())
    return Lease(
        item_id=ItemId(item.decode()),
        lease_id=lease_id,
        lane=lane.decode(),
        payload=payload,
        attempts=int(attempts),
        worker_losses=worker_losses,
        queued_ms=float(queued_ms),
        retried_ms=(lease_id.claimed_us - int(first_claim_us)) / 1000 if first_claim_us else 0,
        remaining_ms=float(remaining_ms) if remaining_ms else None,
    )
