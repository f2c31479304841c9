"""The durable queue: jobs go in whole, items come out one lease at a time.

An item is in exactly one place, and only the scripts in `lua/` move it:

    accept → QUEUE ──claim──▶ LEASES ──settle end──▶ RESULTS
               ▲  ▲             │ │
               │  └─ return,    │ └─ retry ─▶ DEFERRED ─ when due ─▶ QUEUE
               │     lease end ─┘
    cancel: from anywhere ─▶ RESULTS

Invariants: a lane has never more leases than its limit; a result is written once; a lease that
is not held any more changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError

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
    queued_ms: float

    @property
    def job_id(self) -> str:
        return self.item_id.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class Claimed:
    leases: list[Lease]
    again_in_s: float | None  # when something may change without a message
    settled: int  # how many settlements went through: all, or none if Redis refused them


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a leased item: see settle.lua."""

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
    """What a worker can take: see claim.lua."""

    limits: Mapping[str, int]  # by lane, over all workers
    running: Mapping[str, int]  # by lane, in this worker
    places: int
    reserve: int


class Queue:
    """The scripts with Python types. Raises `redis.exceptions.RedisError` where Redis is away."""

    def __init__(self, redis: Redis, keys: Keys, *, lease_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._lease_ms = lease_s * 1000
        self._accept, self._claim, self._renew, self._settle, self._cancel, self._snapshot = (
            redis.register_script(_source(name, keys))
            for name in ("accept", "claim", "renew", "settle", "cancel", "snapshot")
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
        """Settles, then claims, in one round trip; `capacity` None: claims nothing and wakes the
        other workers instead. Repeating the settlements changes nothing."""
        calls: list[tuple[AsyncScript, list[str | bytes | float]]] = []
        if settlements:
            argv = [part for settlement in settlements for part in settlement.argv()]
            calls.append((self._settle, ["0" if capacity else "1", *argv]))
        if capacity:
            share = "1" if settlements else "0"
            calls.append((self._claim, self._claim_argv(capacity, share)))
        replies, in_order = await self._run(calls)
        if isinstance(replies[-1], Exception):
            raise replies[-1]
        # The claim stands, even where the settlements were refused.
        settled = 0 if isinstance(replies[0], Exception) else len(settlements)
        if not capacity:
            return Claimed([], None, settled)
        again_ms, *values = replies[-1]
        leases = [
            Lease(item.decode(), lease.decode(), lane.decode(), payload, int(attempts), float(ms))
            for item, lease, lane, payload, attempts, ms in zip(*[iter(values)] * 6, strict=True)
        ]
        if not in_order:  # the claim did not see yet what the settlements freed
            return Claimed(leases, 0.0, settled)
        return Claimed(leases, float(again_ms) / 1000 if again_ms else None, settled)

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

    def _claim_argv(self, capacity: Capacity, share: str) -> list[str | bytes | float]:
        lanes = [
            part
            for lane, limit in capacity.limits.items()
            for part in (lane, limit, capacity.running.get(lane, 0))
        ]
        return [
            self._lease_ms,
            capacity.places,
            capacity.reserve,
            CLAIM_AT_MOST,
            MAX_DEATHS,
            results.WORKER_LOST,
            share,
            *lanes,
        ]

    async def _run(
        self, calls: Sequence[tuple[AsyncScript, list[str | bytes | float]]]
    ) -> tuple[list[Any], bool]:
        """The replies, and whether they came in the order of the calls. One pipeline without MULTI
        (redis-py's own way asks SCRIPT EXISTS before each). Where the server does not know a script
        yet, only that call is repeated: a second claim would lose the first."""
        replies: dict[int, Any] = {}
        while len(replies) < len(calls):
            left = [index for index in range(len(calls)) if index not in replies]
            pipe = self._redis.pipeline(transaction=False)
            for index in left:
                script, argv = calls[index]
                pipe.evalsha(script.sha, 0, *argv)  # type: ignore[arg-type]
            for index, reply in zip(left, await pipe.execute(raise_on_error=False), strict=True):
                if isinstance(reply, NoScriptError):
                    await self._redis.script_load(calls[index][0].script)
                else:
                    replies[index] = reply
        return [replies[index] for index in range(len(calls))], list(replies) == sorted(replies)


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
