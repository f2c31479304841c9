"""Drives the health of a lane, with a clock that a test advances and the rounds of one worker."""

import time
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from shared.jobs.store import Store
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Claimed, FailedItem, Queue
from shared.queue.leases import Fault, Lease, Settlement
from shared.queue.redis_keys import Keys
from shared.queue.verdict import Verdict
from support.claims import commit
from support.script_clock import declare_now_ms

LEASE_S = 15.0
HOUR_S, DAY_S = 3600.0, 86_400.0
ANSWER = b'{"content":"4"}'
TICK_S = 0.001
BEGIN_MS = round(time.time() * 1000)

UNREACHABLE = Fault(Verdict.UNREACHABLE, "could not be reached", "connection_error")
UNAUTHORIZED = Fault(Verdict.UNAUTHORIZED, "answered 401", "unauthorized", status_code=401)
QUOTA = Fault(Verdict.QUOTA_EXHAUSTED, "answered 402", "quota_exhausted", status_code=402)
ANSWERED_500 = Fault(Verdict.TRANSIENT, "answered 500", "provider_error", status_code=500)
ANSWERED_503 = Fault(Verdict.TRANSIENT, "answered 503", "provider_error", status_code=503)
TIMEOUT = Fault(Verdict.TRANSIENT, "did not answer in time", "timeout")
UNFINISHED = Fault(Verdict.UNFINISHED, "answered 200", "bad_response")
REJECTED = Fault(Verdict.REJECTED, "answered 400", "invalid_request", status_code=400)


def refused(wait_s: float | None = None, *, covers_account: bool = False) -> Fault:
    return Fault(Verdict.RATE_LIMITED, "answered 429", "rate_limited", 429, wait_s, covers_account)


def overloaded(wait_s: float | None = None) -> Fault:
    return Fault(Verdict.OVERLOADED, "answered 529", "overloaded", 529, wait_s)


class Provider:
    """Plays the workers of lane a, and the provider that they call, on the real scripts."""

    def __init__(self, redis: Redis, keys: Keys, *, outage_wait_s: float) -> None:
        self.redis, self.keys = redis, keys
        self.queue = Queue(redis, keys, lease_s=LEASE_S, outage_wait_s=outage_wait_s)
        self.store = Store(redis, keys)
        self.latest = Claimed([], [], None)  # reply of the latest round
        self.job_count = 0
        self.round_count = 0
        self.finished: list[FailedItem] = []  # items that the scripts have finished

    async def accept(self, *routes: str, **submission: Any) -> str:
        """Accepts a job with one item for each route. Returns the job's id."""
        self.job_count += 1
        job_id = submission.pop("job_id", f"job{self.job_count:05}")
        async with self.store.staging(job_id) as staging:
            for index, route in enumerate(routes):
                await staging.add("a", f"{job_id} {index}".encode(), (None, "a", route))
            return await commit(staging, **submission)

    async def claim(
        self, limit: int = 10, *, free_slots: int = 100, running: int = 0
    ) -> list[Lease]:
        """Runs rounds until no further round is due at once. Returns the claimed leases.

        running: number of items that this worker runs. Fails if the rounds do not end.
        """
        leases: list[Lease] = []
        for _ in range(2000):
            count = running + len(leases)
            leases += await self.round(limit, free_slots=free_slots - len(leases), running=count)
            if self.latest.next_round_s != 0:
                return leases
        pytest.fail("the worker runs one round after another, and claims nothing")

    async def round(
        self, limit: int = 10, *settlements: Settlement, free_slots: int = 100, running: int = 0
    ) -> list[Lease]:
        """Runs one round: settles, and claims if there are free slots. Returns the new leases."""
        by_lane = {"a": running} if running else {}
        capacity = (
            Capacity(Limits({"a": limit, "b": 10}), by_lane, free_slots) if free_slots else None
        )
        self.round_count += 1
        self.latest = await self.queue.settle_and_claim(settlements, capacity)
        self.finished += self.latest.failed
        return self.latest.leases

    async def answer(self, *leases: Lease) -> None:
        await self._settle(*(Settlement(lease, "complete", ANSWER, 100) for lease in leases))

    async def fail(self, fault: Fault, *leases: Lease, delay_s: float | None = 0) -> None:
        """Settles leases whose calls have failed. delay_s: None if no retry is left."""
        await self._settle(*(failed(lease, fault, delay_s) for lease in leases))

    async def next_round(self) -> list[Lease]:
        """Advances the clock to the worker's next round. Returns the leases claimed then."""
        assert self.latest.next_round_s is not None
        await self.pass_time(self.latest.next_round_s + TICK_S)
        return await self.claim()

    async def release(self, *leases: Lease) -> None:
        await self._settle(*(Settlement(lease, "release") for lease in leases))

    async def _settle(self, *settlements: Settlement) -> None:
        """Settles without a claim."""
        self.latest = await self.queue.settle_and_claim(settlements, None)
        self.finished += self.latest.failed

    async def commands(self) -> int:
        """Returns the number of commands that the server has run, with the commands of scripts."""
        stats = await self.redis.info("commandstats")
        return sum(command["calls"] for command in stats.values())

    async def pass_time(self, seconds: float) -> None:
        """Advances the clock that the scripts read."""
        await self.redis.incrbyfloat(clock_key(self.keys), seconds * 1000)

    async def open(self, fault: Fault = UNREACHABLE, route: str = "m") -> Lease:
        """Opens a scope by one failed call. The item of the call keeps waiting."""
        await self.accept(route, job_id="opens")
        [lease] = await self.claim()
        await self.fail(fault, lease)
        return lease

    async def record(self, scope: str = "") -> dict[str, Any]:
        """Returns a scope's record; {} if the scope is healthy."""
        source = (
            "local stored = redis.call('HGET', KEYS[1], ARGV[1])"
            " return stored and cjson.encode(cmsgpack.unpack(stored))"
        )
        found = await self.redis.eval(source, 1, self.keys.health("a"), scope)  # type: ignore[misc]
        return orjson.loads(found) if found else {}

    async def opened_ms(self, scope: str) -> float | None:
        """Returns the time at which a scope opened, exact to the µs; None if it is not open."""
        source = (
            "local stored = redis.call('HGET', KEYS[1], ARGV[1])"
            " local opened_ms = stored and cmsgpack.unpack(stored).opened_ms"
            " return opened_ms and string.format('%.3f', opened_ms)"
        )
        found = await self.redis.eval(source, 1, self.keys.health("a"), scope)  # type: ignore[misc]
        return float(found) if found else None

    async def is_open(self, scope: str = "") -> bool:
        return "opened_ms" in await self.record(scope)

    async def results(self, job_id: str) -> dict[int, Any]:
        snapshot = await self.store.snapshot(job_id)
        assert snapshot is not None
        assert snapshot.results is not None
        return {
            index: orjson.loads(result.partition(b" ")[2])
            for index, result in snapshot.results.items()
        }


def failed(lease: Lease, fault: Fault, delay_s: float | None = 0) -> Settlement:
    result = orjson.dumps({"error": "failed", "error_code": fault.code})
    return Settlement(lease, "retry", result, 100, delay_s=delay_s, fault=fault)


def clock_key(keys: Keys) -> str:
    return f"{keys.prefix}test-clock"


def use_clock(monkeypatch: pytest.MonkeyPatch, keys: Keys) -> None:
    """Lets the scripts that are loaded from now on read a clock that only a test advances.

    Each script that writes advances the clock by 1 µs, because no two rounds may run in the same
    µs.
    """
    declaration = f"""
local function count_tick()
  local ticks_key = CLOCK_KEY .. '-ticks'
  local ticks = redis.pcall('INCR', ticks_key) -- fails in a script that must not write
  return type(ticks) == 'number' and ticks or tonumber(redis.call('GET', ticks_key) or 0)
end
local now_ms = {BEGIN_MS} + tonumber(redis.call('GET', CLOCK_KEY) or 0) + count_tick() / 1000
"""
    declare_now_ms(monkeypatch, declaration, clock_key(keys))
