"""Defines `LaneWorker`, an arq worker that claims an item only when the item may run."""

import asyncio
import random
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from arq.worker import Worker

from shared.memory_budget import MemoryBudget
from shared.monitoring.reports import ReportWriter
from shared.providers.lanes import shown_lane
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import MAX_SETTLEMENTS, Queue
from shared.queue.item_results import Result
from shared.queue.layout_version import wait_for_layout
from shared.queue.leases import Lease, Settlement
from shared.queue.redis_keys import Keys
from shared.redis.client import RETRY_INTERVAL_S, RedisUnavailable
from shared.redis.pubsub import listen
from worker.execution import execute, internal_error, settlement
from worker.lease_keeper import LeaseKeeper
from worker.metrics import WorkerMetrics
from worker.payload_memory import PayloadRoom
from worker.running_calls import RunningCalls, now
from worker.stats_reporter import StatsReporter

POLL_S = 5.0  # time until the next round if no wake message arrives: a message may be lost
POLL_JITTER = 0.2  # share of POLL_S; a random part is added or removed, to spread the rounds
MAX_STARTS = 8  # number of calls that are started before the event loop can send their requests
MAX_SETTLED_BYTES = 4 * 1024 * 1024  # limit of a round's results; a larger result is sent alone
SIGN_OFF_S = 5.0  # time limit of the last settlements and the last report, when the worker stops

log = structlog.get_logger()


class LaneWorker(Worker):
    """Replaces the code with which arq takes items from the queue.

    arq still registers the tasks, handles signals, and starts and stops the worker. Five asyncio
    tasks run at the same time:
    - The listener wakes the rounds, and stops the calls of jobs that ended early.
    - The rounds settle leases and claim items. A round is one round trip to Redis.
    - Two asyncio tasks of the `LeaseKeeper` renew leases, and stop calls before leases expire.
    - The reporter sends statistics.
    This class sets no time limit for a call: each task limits its own calls.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        reports: ReportWriter,
        metrics: WorkerMetrics,
        memory: MemoryBudget,
        keys: Keys,
        worker_id: str,
        limits: Limits,
        configured: Collection[str],
        lease_s: float,
        **arq: Any,  # noqa: ANN401 — passed on to arq.Worker
    ) -> None:
        """Creates a worker that serves the lanes in `limits`.

        limits: the limits of each lane, for all workers together.
        configured: the lanes whose calls this worker can make. Items of the other lanes fail.
        """
        super().__init__(**arq)
        self._queue = queue
        self._memory = memory
        self._keys = keys
        self._worker_id = worker_id
        self._limits = limits
        by_lane = limits.by_lane
        self._configured = {lane: by_lane[lane] for lane in by_lane if lane in configured}
        self._calls = RunningCalls()
        self._metrics = metrics
        self._metrics.show_lanes(self._configured, self._calls.by_lane)
        self._settlements: list[Settlement] = []
        self._leases = LeaseKeeper(
            queue, worker_id, self._calls, metrics, settlements=self._settlements, lease_s=lease_s
        )
        self._reporter = StatsReporter(
            reports,
            metrics.calls,
            worker_id,
            limits=by_lane,
            configured=self._configured,
            rules=limits.shown_rules,
            running=self._calls.by_lane,
        )
        self._payloads = PayloadRoom()
        self._wake = asyncio.Event()
        self._round: asyncio.Task[float | None] | None = None

    async def main(self) -> None:
        if self.on_startup:
            await self.on_startup(self.ctx)
        await wait_for_layout(self.pool, self._keys)
        log.info("worker_started", worker=self._worker_id, limits=self._configured)
        handlers = {
            self._keys.wake: lambda _: self._wake.set(),
            self._keys.job_cancelled: self._calls.stop_job,
        }
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(listen(self.pool, handlers, self._reconnected))
                group.create_task(self._run_rounds())
                group.create_task(self._leases.renew_forever())
                group.create_task(self._leases.stop_expired_forever())
                group.create_task(self._reporter.run())
        finally:
            self.allow_pick_jobs = False
            if self._round:
                await self._round
            for call in self.tasks.values():
                call.cancel()
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)
            await self._sign_off()

    async def close(self) -> None:
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.pool.aclose()
        log.info("worker_stopped", worker=self._worker_id, items_finished=self.jobs_complete)

    def _reconnected(self) -> None:
        """Wakes the rounds, because wake messages may be lost, and renews all leases."""
        # The new connection may lead to a new Redis master, which may not have all leases.
        self._wake.set()
        self._leases.renew_now()

    async def _run_rounds(self) -> None:
        """Runs a round whenever a lease can be settled or an item may run, until cancelled."""
        timer: asyncio.TimerHandle | None = None
        while True:
            await self._wake.wait()
            self._wake.clear()
            if timer:
                timer.cancel()
            # Shielded, because a cancelled round would lose the leases that Redis has granted.
            self._round = self.loop.create_task(self._run_round())
            next_round_s = await asyncio.shield(self._round)
            jitter = random.uniform(-POLL_JITTER, POLL_JITTER)  # noqa: S311 — not for security
            delay_s = POLL_S * (1 + jitter)
            if next_round_s is not None:
                delay_s = min(delay_s, next_round_s + 0.001)
            timer = self.loop.call_later(delay_s, self._wake.set)

    async def _run_round(self) -> float | None:
        """Settles the leases of calls that have ended, and claims items that may run.

        Returns the seconds until the next round can settle or claim something; None if unknown. If
        Redis is unavailable, returns the seconds until the round is repeated.
        """
        settlements = self._next_settlements()
        capacity = self._capacity()
        if not settlements and capacity.free_slots == 0:
            return None
        is_limited = capacity.free_slots < self.max_jobs - len(self._calls)
        asked_at = now()
        try:
            claimed = await self._queue.settle_and_claim(settlements, capacity)
        except RedisUnavailable:
            self._metrics.redis_errors.inc()
            return RETRY_INTERVAL_S  # the next round is the retry, with newer settlements
        if capacity.free_slots:
            self._metrics.claims.inc()
            self._metrics.claimed.inc(len(claimed.leases))
        # Only settlements that Redis has confirmed are deleted. The others are sent again, which is
        # safe: settling a lease twice changes nothing.
        self._forget(settlements)
        self._payloads.learn(claimed.leases)
        may_have_more = is_limited and bool(claimed.leases)
        if self._settlements or may_have_more:
            self._wake.set()
        for item in claimed.failed:
            failed = Result(error_code=item.error_code, error="failed", queued_ms=item.queued_ms)
            self._metrics.calls.add_item(shown_lane(item.lane), item.model, failed)
        for number, lease in enumerate(claimed.leases, 1):
            self._start(lease, asked_at)
            if number % MAX_STARTS == 0:
                await asyncio.sleep(0)  # uvloop sends the requests at the end of an iteration
        return claimed.next_round_s

    def _next_settlements(self) -> list[Settlement]:
        """Returns up to MAX_SETTLEMENTS settlements, with up to MAX_SETTLED_BYTES of results.

        So Redis runs the script of the next round for a short time only.
        """
        size = 0
        for number, waiting in enumerate(self._settlements[:MAX_SETTLEMENTS]):
            size += len(waiting.result)
            if size > MAX_SETTLED_BYTES and number:
                return self._settlements[:number]
        return self._settlements[:MAX_SETTLEMENTS]

    def _forget(self, settlements: list[Settlement]) -> None:
        """Deletes settlements that Redis has confirmed. They are the first in the list."""
        del self._settlements[: len(settlements)]
        if size := sum(confirmed.memory_bytes for confirmed in settlements):
            self._memory.remove(size)

    def _capacity(self) -> Capacity:
        room = self._payloads.items(self._calls.payload_bytes) if self.allow_pick_jobs else 0
        free_slots = max(0, min(room, self.max_jobs - len(self._calls)))
        running, quarantined = self._calls.by_lane, self._calls.quarantined
        return Capacity(self._limits, running, free_slots, quarantined, self._worker_id)

    def _start(self, lease: Lease, asked_at: float) -> None:
        stop_at = self._leases.stop_time(asked_at)
        # While Redis was answering, a stop signal may have arrived, or this process may have been
        # suspended.
        if not self.allow_pick_jobs or now() >= stop_at:
            self._send(Settlement(lease, "release"))
            return
        call = self.loop.create_task(self._run(lease))
        self.tasks[lease.lease_id] = call
        self._calls.add(lease, call, stop_at)
        self._leases.renew_soon(stop_at)
        call.add_done_callback(partial(self._done, lease))

    def _done(self, lease: Lease, call: asyncio.Task[Settlement]) -> None:
        self._calls.remove(lease)
        del self.tasks[lease.lease_id]
        # A call is stopped because its job ended early, its lease was lost or not renewed in time,
        # or the process stops. The lease is released in each case. The script ignores the release
        # of a lease that does not exist any more.
        self._send(Settlement(lease, "release") if call.cancelled() else call.result())

    def _send(self, new_settlement: Settlement) -> None:
        """Adds a settlement to the list for the next rounds, and wakes the rounds."""
        self._settlements.append(new_settlement)
        if new_settlement.memory_bytes:
            self._memory.force(new_settlement.memory_bytes)
        self._wake.set()

    async def _run(self, lease: Lease) -> Settlement:
        """Runs the item's task. Returns a settlement of the lease even if the task crashes."""
        try:
            outcome = await execute(lease, self.functions, self.ctx)
            to_settle = settlement(lease, outcome)
        except Exception as error:  # noqa: BLE001 — an item must finish even if its task crashes
            # Only the error's type is logged, because the error's text may contain a prompt.
            log.critical("task_crashed", item=lease.item_id, error=type(error).__name__)
            self.jobs_failed += 1
            return settlement(lease, internal_error(lease))
        if to_settle.outcome == "retry":
            self.jobs_retried += 1
        else:
            self.jobs_complete += 1
        return to_settle

    async def _sign_off(self) -> None:
        """Settles the remaining leases, sends the last report, and removes this worker.

        Gives up after SIGN_OFF_S, or if Redis is unavailable. The leases then expire.
        """
        with suppress(RedisUnavailable, TimeoutError):
            async with asyncio.timeout(SIGN_OFF_S):
                while settlements := self._next_settlements():
                    await self._queue.settle_and_claim(settlements, None)
                    self._forget(settlements)
                await self._queue.unregister_worker(self._worker_id)
                await self._reporter.leave()
