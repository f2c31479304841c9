"""The durable queue, as workers see it: items come out one lease at a time.

An item is in exactly one place, and only the scripts in `lua/` move it:

    accept → QUEUE ──claim──▶ LEASES ──settle end, fail──▶ RESULTS
               ▲  ▲             │ │
               │  └─ return,    │ └─ retry ─▶ DEFERRED ─ when due ─▶ QUEUE
               │     lease end ─┘
    cancel, deadline: the job has ended, and with it what has no result

With one death left before it is given up, an item waits in QUARANTINE instead of in QUEUE. A worker
runs one of these at a time, so that what kills workers does not take its neighbours with it.

Invariants: a lane has never more leases than its limit; a result is written once; a lease that
is not held any more changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis

from shared.queue import results
from shared.queue.keys import Keys
from shared.queue.scripts import script

MAX_DEATHS = 3  # an item whose worker died this often is given up
INTERACTIVE_WEIGHT = 4  # against 1 of bulk work
CLAIM_AT_MOST = 50  # items in one claim: other workers get a share of a large batch


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed item's right to run, and its slot of the lane's limit."""

    item_id: str
    lease_id: str
    lane: str
    payload: bytes
    attempts: int  # failed before this one
    deaths: int  # of workers that ran this attempt
    queued_ms: float
    retried_ms: float = 0  # of these, since the first attempt began
    left_ms: float | None = None  # until the job's deadline

    @property
    def job_id(self) -> str:
        return self.item_id.rpartition(":")[0]

    @property
    def quarantined(self) -> bool:
        return self.deaths >= MAX_DEATHS - 1


@dataclass(frozen=True, slots=True)
class Claimed:
    leases: list[Lease]
    again_in_s: float | None  # when something may change without a message


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a leased item: see settle_and_claim.lua."""

    lease: Lease
    verb: Literal["end", "fail", "retry", "return"]
    result: bytes = b""
    latency_ms: float = 0  # of the result
    delay_ms: float = 0
    pause_ms: float = 0
    pause_why: str = ""  # for people; all owners see it

    def argv(self) -> tuple[str | bytes | float, ...]:
        pause = f"{self.pause_ms} {self.pause_why}" if self.pause_ms else 0
        last = self.delay_ms if self.verb == "retry" else self.result
        latency_us = round(self.latency_ms * 1000)
        return (self.lease.lane, self.lease.lease_id, self.verb, pause, last, latency_us)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a worker can take: see settle_and_claim.lua."""

    limits: Mapping[str, int]  # by lane, over all workers
    running: Mapping[str, int]  # by lane, in this worker
    places: int
    reserve: int
    quarantined: int = 0  # how many such items it runs


class Queue:
    """The scripts with Python types. Raises `redis.exceptions.RedisError` where Redis is away."""

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
        self._interactive_weight = interactive_weight
        self._settle_and_claim, self._renew, self._expire_overdue = (
            script(redis, keys, name) for name in ("settle_and_claim", "renew", "expire_overdue")
        )

    async def settle_and_claim(
        self, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        """Settles, then claims; `capacity` None: claims nothing, and wakes the other workers
        instead. Repeating the settlements changes nothing."""
        ended = [part for settlement in settlements for part in settlement.argv()]
        reply = await self._settle_and_claim(
            args=[
                self._lease_ms,
                *((capacity.places, capacity.reserve) if capacity else (0, 0)),
                CLAIM_AT_MOST,
                self._interactive_weight,
                MAX_DEATHS,
                results.WORKER_LOST.to_json(),
                capacity.quarantined if capacity else 0,
                len(settlements),
                *ended,
                *(_lanes(capacity) if capacity else ()),
            ]
        )
        again_ms, *values = reply
        leases = [_lease(*fields) for fields in zip(*[iter(values)] * 8, strict=True)]
        return Claimed(leases, float(again_ms) / 1000 if again_ms else None)

    async def renew(self, worker_id: str, leases: Iterable[Lease]) -> set[str]:
        """Returns the lease ids whose calls must stop."""
        argv = [part for lease in leases for part in (lease.lane, lease.lease_id)]
        stop = await self._renew(args=[worker_id, self._lease_ms, *argv])
        return {lease_id.decode() for lease_id in stop}

    async def expire_overdue(self) -> None:
        """Ends what is past its deadline: the scripts of workers do, but there may be none."""
        await self._expire_overdue()

    async def workers(self) -> list[str]:
        """The ids of those that are alive."""
        seconds, microseconds = await self._redis.time()
        now_ms = seconds * 1000 + microseconds / 1000
        alive = await self._redis.zrangebyscore(self._keys.workers, now_ms, "+inf")
        return [worker_id.decode() for worker_id in alive]


def _lease(
    item: bytes,
    lease: bytes,
    lane: bytes,
    payload: bytes,
    tries: bytes,
    deaths: bytes,
    queued_ms: bytes,
    left_ms: bytes,
) -> Lease:
    attempts, _, first_claim_us = tries.partition(b"@")
    lease_id = lease.decode()
    claim_us = int(lease_id.rpartition("@")[2])
    return Lease(
        item_id=item.decode(),
        lease_id=lease_id,
        lane=lane.decode(),
        payload=payload,
        attempts=int(attempts),
        deaths=int(deaths),
        queued_ms=float(queued_ms),
        retried_ms=(claim_us - int(first_claim_us)) / 1000 if first_claim_us else 0,
        left_ms=float(left_ms) if left_ms else None,
    )


def _lanes(capacity: Capacity) -> Iterable[str | int]:
    for lane, limit in capacity.limits.items():
        yield from (lane, limit, capacity.running.get(lane, 0))
