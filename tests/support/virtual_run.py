"""Runs workers and a provider on the real scripts, with a clock that jumps from event to event.

A run of minutes takes seconds, and its times are exact however busy the machine is.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Protocol

import orjson
import pytest
from redis.asyncio import Redis

from shared.jobs.store import Store
from shared.queue.capacity import Capacity, Limits, Rules
from shared.queue.claims import Queue
from shared.queue.leases import CallUsage, Fault, Lease, Settlement
from shared.queue.redis_keys import Keys
from support.claims import commit
from support.script_clock import declare_now_ms
from worker.retry import backoff_s

LANE = "a"
POLL_S = 5.0  # a worker runs a round after this time at the latest, as the real worker does
ROUND_S = 0.001  # time from the end of a call, or from a wake message, until the scripts run
STEP_S = 0.000_001  # no two rounds run in the same µs
BEGIN_S = 1_700_000_000.0


@dataclass(slots=True, eq=False)
class Call:
    """Describes one call as the provider sees it. Times are seconds since the start of the run."""

    text: str
    model: str
    start_s: float
    end_s: float = 0
    fault: Fault | None = None
    lease: Lease | None = None
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """Describes a provider's reply: a failure if `fault` is set, otherwise an answer."""

    seconds: float
    fault: Fault | None = None
    usage: CallUsage | None = None


class Provider(Protocol):
    def begin(self, call: Call) -> Reply: ...

    def end(self, call: Call) -> None: ...


@dataclass(slots=True, eq=False)
class Worker:
    """Describes a worker. If `is_lost`, the worker no longer settles, claims or renews."""

    id: str
    running: list[Lease] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    round_at: float | None = None
    is_lost: bool = False


class VirtualRun:
    """Runs workers of one lane. Create it with `virtual_run`."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        provider: Provider,
        *,
        limit: int,
        rules: Rules | None = None,
        workers: int = 2,
        slots: int = 200,
        max_retries: int = 1,
        lease_s: float = 15,
        seed: int = 0,
    ) -> None:
        self.now_s = 0.0
        self.calls: list[Call] = []
        self.workers = [Worker(f"worker{number}") for number in range(workers)]
        self._redis, self._keys, self._provider = redis, keys, provider
        self._queue = Queue(redis, keys, lease_s=lease_s)
        self._store = Store(redis, keys)
        self._limits = Limits({LANE: limit}, {LANE: rules} if rules else {})
        self._slots, self._max_retries, self._lease_s = slots, max_retries, lease_s
        self._events: list[tuple[float, int, Any]] = []
        self._numbers = count()
        self._jobs = count(1)
        self._rng = random.Random(seed)
        self._pubsub = redis.pubsub()
        self._has_started = False

    async def accept(self, texts: Sequence[str], model: str = "m", **submission: Any) -> str:
        """Accepts a job. Each item's payload is its text, as JSON."""
        await self._set_clock()
        job_id = f"job{next(self._jobs):05}"
        async with self._store.staging(job_id) as staging:
            for text in texts:
                payload = orjson.dumps({"model": model, "text": text})
                await staging.add(LANE, payload, (None, LANE, model))
            await commit(staging, **submission)
        return job_id

    async def run(self, until_s: float = 86_400) -> None:
        """Runs until no event is left, or until `until_s` seconds after the start of the run."""
        if not self._has_started:
            self._has_started = True
            await self._pubsub.subscribe(self._keys.wake)
            for worker in self.workers:
                await self._renew(worker)
        for worker in self.workers:
            self._wake(worker)
        while self._events and self._events[0][0] <= until_s:
            at_s, _, event = heapq.heappop(self._events)
            self.now_s = max(self.now_s + STEP_S, at_s)
            await event()

    async def close(self) -> None:
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    def at(self, time_s: float, event: Any) -> None:
        """Calls the async function `event` at `time_s` seconds after the start of the run."""
        heapq.heappush(self._events, (time_s, next(self._numbers), event))

    def kill_at(self, time_s: float, worker: Worker) -> None:
        """Kills a worker at `time_s`. The provider no longer answers the worker's calls."""

        async def kill() -> None:
            worker.is_lost = True

        self.at(time_s, kill)

    async def _set_clock(self) -> None:
        self.now_s += STEP_S
        await self._redis.set(_clock_key(self._keys), f"{(BEGIN_S + self.now_s) * 1000:.3f}")

    async def _renew(self, worker: Worker) -> None:
        if worker.is_lost:
            return
        await self._set_clock()
        await self._queue.renew(worker.id, worker.running)
        if await self._has_work():
            self.at(self.now_s + self._lease_s / 3, partial(self._renew, worker))

    def _wake(self, worker: Worker, delay_s: float = ROUND_S) -> None:
        at_s = self.now_s + delay_s
        if not worker.is_lost and (worker.round_at is None or at_s < worker.round_at):
            worker.round_at = at_s
            self.at(at_s, partial(self._round, worker, at_s))

    async def _round(self, worker: Worker, at_s: float) -> None:
        if worker.round_at != at_s or worker.is_lost:  # an earlier round was asked for
            return
        worker.round_at = None
        settlements, worker.settlements = worker.settlements, []
        running = {LANE: len(worker.running)} if worker.running else {}
        free = self._slots - len(worker.running)
        capacity = Capacity(self._limits, running, free, worker_id=worker.id)
        await self._set_clock()
        claimed = await self._queue.settle_and_claim(settlements, capacity)
        for lease in claimed.leases:
            self._begin(worker, lease)
        next_s = POLL_S if claimed.next_round_s is None else min(claimed.next_round_s, POLL_S)
        if await self._has_work():
            self._wake(worker, next_s + ROUND_S)
        if await self._is_woken():
            for other in self.workers:
                self._wake(other)

    def _begin(self, worker: Worker, lease: Lease) -> None:
        worker.running.append(lease)
        item = orjson.loads(lease.payload)
        call = Call(item["text"], item["model"], self.now_s, lease=lease, worker=worker.id)
        reply = self._provider.begin(call)
        call.fault = reply.fault
        self.calls.append(call)
        self.at(self.now_s + reply.seconds, partial(self._end, worker, call, lease, reply))

    async def _end(self, worker: Worker, call: Call, lease: Lease, reply: Reply) -> None:
        call.end_s = self.now_s
        if worker.is_lost:
            return
        self._provider.end(call)
        worker.running.remove(lease)
        worker.settlements.append(self._settlement(lease, reply))
        self._wake(worker)

    def _settlement(self, lease: Lease, reply: Reply) -> Settlement:
        if reply.fault is None:
            return Settlement(lease, "complete", b"{}", 100, usage=reply.usage)
        number = lease.attempts + 1
        delay_s = backoff_s(number, self._rng.uniform) if number <= self._max_retries else None
        result = orjson.dumps({"error": "failed", "error_code": reply.fault.code})
        return Settlement(
            lease, "retry", result, 100, delay_s=delay_s, fault=reply.fault, usage=reply.usage
        )

    async def _has_work(self) -> bool:
        return bool(await self._redis.zcard(self._keys.active_lanes))

    async def _is_woken(self) -> bool:
        """Returns whether a wake message has been published."""
        await self._pubsub.ping()
        is_woken = False
        while message := await self._pubsub.get_message(timeout=1):
            if message["type"] == "pong":
                break
            is_woken |= message["type"] == "message"
        return is_woken


def _clock_key(keys: Keys) -> str:
    return f"{keys.prefix}virtual-clock"


def use_virtual_clock(monkeypatch: pytest.MonkeyPatch, keys: Keys) -> None:
    """Lets the scripts that are loaded from now on read the clock of a `VirtualRun`."""
    declaration = "local now_ms = tonumber(redis.call('GET', CLOCK_KEY))"
    declare_now_ms(monkeypatch, declaration, _clock_key(keys))
