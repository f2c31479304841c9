"""The durable queue: jobs go in whole, items come out one lease at a time.

An item is in exactly one place, and only the scripts in `lua/` move it:

    accept → QUEUE ──claim──▶ LEASES ──settle end──▶ RESULTS
               ▲  ▲             │ │
               │  └─ return,    │ └─ retry ─▶ DEFERRED ─ when due ─▶ QUEUE
               │     lease end ─┘
    cancel: from anywhere ─▶ RESULTS

With one death left before it is given up, an item waits in QUARANTINE instead of in QUEUE. A worker
runs one of these at a time, so that what kills workers does not take its neighbours with it.

Invariants: a lane has never more leases than its limit; a result is written once; a lease that
is not held any more changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from redis.asyncio import Redis

from shared import results
from shared.keys import Keys

MAX_DEATHS = 3  # an item whose worker died this often is given up
CLAIM_AT_MOST = 50  # items in one claim: other workers get a share of a large batch


class LaneFull(Exception):
    """More items wait in this lane than `max_depth`."""

    def __init__(self, lane: str) -> None:
        super().__init__(lane)
        self.lane = lane


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
    """What becomes of a leased item: see exchange.lua."""

    lease: Lease
    verb: Literal["end", "retry", "return"]
    result: bytes = b""
    delay_ms: float = 0
    pause_ms: float = 0

    def argv(self) -> tuple[str | bytes | float, ...]:
        last = self.delay_ms if self.verb == "retry" else self.result
        return (self.lease.lane, self.lease.lease_id, self.verb, self.pause_ms, last)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job as it is stored; results by index, each with the time it ended."""

    fields: dict[str, bytes]
    results: dict[int, tuple[float, bytes]]
    running: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a worker can take: see exchange.lua."""

    limits: Mapping[str, int]  # by lane, over all workers
    running: Mapping[str, int]  # by lane, in this worker
    places: int
    reserve: int
    quarantined: int = 0  # how many such items it runs


class Queue:
    """The scripts with Python types. Raises `redis.exceptions.RedisError` where Redis is away."""

    def __init__(self, redis: Redis, keys: Keys, *, lease_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._lease_ms = lease_s * 1000
        self._accept, self._exchange, self._renew, self._cancel, self._snapshot = (
            redis.register_script(_source(name, keys))
            for name in ("accept", "exchange", "renew", "cancel", "snapshot")
        )

    async def accept(
        self,
        job_id: str,
        items: Iterable[tuple[str, bytes]],
        *,
        meta: bytes,
        ttl_s: int,
        max_depth: int,
    ) -> None:
        """Items are (lane, payload). Raises LaneFull, and then has stored nothing."""
        argv = [part for item in items for part in item]
        full = await self._accept(args=[job_id, ttl_s, max_depth, meta, *argv])
        if full:
            raise LaneFull(full.decode())

    async def exchange(
        self, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        """Settles, then claims; `capacity` None: claims nothing, and wakes the other workers
        instead. Repeating the settlements changes nothing."""
        ended = [part for settlement in settlements for part in settlement.argv()]
        reply = await self._exchange(
            args=[
                self._lease_ms,
                *((capacity.places, capacity.reserve) if capacity else (0, 0)),
                CLAIM_AT_MOST,
                MAX_DEATHS,
                results.WORKER_LOST,
                capacity.quarantined if capacity else 0,
                len(settlements),
                *ended,
                *(_lanes(capacity) if capacity else ()),
            ]
        )
        again_ms, *values = reply
        leases = [
            Lease(
                item_id=item.decode(),
                lease_id=lease.decode(),
                lane=lane.decode(),
                payload=payload,
                attempts=int(attempts),
                deaths=int(deaths),
                queued_ms=float(queued_ms),
            )
            for item, lease, lane, payload, attempts, deaths, queued_ms in zip(
                *[iter(values)] * 7, strict=True
            )
        ]
        return Claimed(leases, float(again_ms) / 1000 if again_ms else None)

    async def renew(self, worker_id: str, leases: Iterable[Lease]) -> set[str]:
        """Returns the lease ids whose calls must stop."""
        argv = [part for lease in leases for part in (lease.lane, lease.lease_id)]
        stop = await self._renew(args=[worker_id, self._lease_ms, *argv])
        return {lease_id.decode() for lease_id in stop}

    async def cancel(self, job_id: str) -> bool:
        """False if there is no such job."""
        return bool(await self._cancel(args=[job_id, results.CANCELLED]))

    async def snapshot(self, job_id: str) -> Snapshot | None:
        reply = await self._snapshot(args=[job_id])
        if reply is None:
            return None
        fields, ended, running = reply
        return Snapshot(
            fields={name.decode(): value for name, value in _pairs(fields)},
            results={int(index): _ended(value) for index, value in _pairs(ended)},
            running=running,
        )

    async def finished(self, job_ids: Sequence[str]) -> list[str]:
        """Those that are done."""
        if not job_ids:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hexists(self._keys.job(job_id), "finished_ms")
        done = await pipe.execute()
        return [job_id for job_id, is_done in zip(job_ids, done, strict=True) if is_done]

    async def workers(self) -> list[str]:
        """The ids of those that are alive."""
        seconds, microseconds = await self._redis.time()
        now_ms = seconds * 1000 + microseconds / 1000
        alive = await self._redis.zrangebyscore(self._keys.workers, now_ms, "+inf")
        return [worker_id.decode() for worker_id in alive]


def _lanes(capacity: Capacity) -> Iterable[str | int]:
    for lane, limit in capacity.limits.items():
        yield from (lane, limit, capacity.running.get(lane, 0))


def _source(name: str, keys: Keys) -> str:
    """The shebang line of a script must stay its first."""
    lua = files("shared").joinpath("lua")
    flags, body = lua.joinpath(f"{name}.lua").read_text().split("\n", 1)
    return f"{flags}\n{keys.lua_constants()}{lua.joinpath('prelude.lua').read_text()}{body}"


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _ended(value: bytes) -> tuple[float, bytes]:
    ended_ms, _, result = value.partition(b" ")
    return float(ended_ms), result
