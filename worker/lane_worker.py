"""arq's worker with admission at the claim: it takes an item only when the item may run."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
from arq.worker import Worker

from shared.monitoring.reports import ReportWriter
from shared.queue.claims import Capacity, Lease, Queue, Settlement
from shared.queue.keys import Keys
from shared.queue.layout_version import wait_for_layout
from shared.redis.client import RedisUnavailable
from shared.redis.pubsub import listen
from worker.execution import execute, internal_error, settlement
from worker.lease_keeper import LeaseKeeper
from worker.metrics import WorkerMetrics
from worker.running_calls import RunningCalls, now
from worker.stats_reporter import StatsReporter

POLL_S = 5.0  # a round is due after this time without a message: one may have been lost
REDIS_RETRY_S = 0.25
MAX_STARTS = 8  # calls that are started before the event loop can send
SIGN_OFF_S = 5.0  # for the last settlements and the last report

log = structlog.get_logger()


class LaneWorker(Worker):
    """Replaces how arq takes items from the queue; functions, signals and life cycle are arq's.

    Five tasks run side by side. The listener wakes the worker and stops the calls of cancelled
    jobs. The rounds settle and claim, in one round trip to Redis. Two tasks of the `LeaseKeeper`
    renew leases and stop calls whose lease expires. The reporter sends statistics. The time limit
    of a call is its function's own.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        reports: ReportWriter,
        metrics: WorkerMetrics,
        keys: Keys,
        worker_id: str,
        limits: Mapping[str, int],
        lease_s: float,
        **arq: Any,  # noqa: ANN401 — passed on to arq.Worker
    ) -> None:
        """`limits` are the calls of each lane that may run at once, over all workers."""
        super().__init__(**arq)
        self._queue = queue
        self._keys = keys
        self._worker_id = worker_id
        self._limits = limits
        self._calls = RunningCalls()
        self._metrics = metrics
        self._metrics.show_lanes(limits, self._calls.by_lane)
        self._leases = LeaseKeeper(queue, worker_id, self._calls, metrics, lease_s=lease_s)
        self._reporter = StatsReporter(
            reports, metrics.calls, worker_id, limits=limits, running=self._calls.by_lane
        )
        self._settlements: list[Settlement] = []
        self._wake = asyncio.Event()
        self._round: asyncio.Task[float | None] | None = None

    async def main(self) -> None:
        if self.on_startup:
            await self.on_startup(self.ctx)
        await wait_for_layout(self.pool, self._keys)
        log.info("worker_started", worker=self._worker_id, limits=dict(self._limits))
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
        """Renews at once: a replica that became the master may not know all leases."""
        self._wake.set()
        self._leases.renew_now()

    async def _run_rounds(self) -> None:
        """Runs a round whenever an item can be settled or may have become ready."""
        timer: asyncio.TimerHandle | None = None
        while True:
            await self._wake.wait()
            self._wake.clear()
            if timer:
                timer.cancel()
            # Shielded: a round that is cut off would lose the leases that Redis has granted.
            self._round = self.loop.create_task(self._run_round())
            next_round_s = await asyncio.shield(self._round)
            delay_s = POLL_S * random.uniform(0.8, 1.2)  # noqa: S311 — spreads the workers
            if next_round_s is not None:
                delay_s = min(delay_s, next_round_s + 0.001)
            timer = self.loop.call_later(delay_s, self._wake.set)

    async def _run_round(self) -> float | None:
        """Settles finished items and claims ready ones.

        Returns after how many seconds the next round is useful, or None if that is unknown.
        """
        settlements = list(self._settlements)
        capacity = self._capacity()
        if not settlements and capacity is None:
            return None
        asked_at = now()
        try:
            claimed = await self._queue.settle_and_claim(settlements, capacity)
        except RedisUnavailable as error:
            log.warning("redis_unavailable", reason=str(error), retry_in_s=REDIS_RETRY_S)
            self._metrics.redis_errors.inc()
            return REDIS_RETRY_S
        if capacity:
            self._metrics.claims.inc()
            self._metrics.claimed.inc(len(claimed.leases))
        # Only settlements that Redis has confirmed; repeating one changes nothing.
        del self._settlements[: len(settlements)]
        for number, lease in enumerate(claimed.leases, 1):
            self._start(lease, asked_at)
            if number % MAX_STARTS == 0:
                await asyncio.sleep(0)  # uvloop sends at the end of an iteration
        return claimed.next_round_s

    def _capacity(self) -> Capacity | None:
        free_slots = self.max_jobs - len(self._calls)
        if free_slots <= 0 or not self.allow_pick_jobs:
            return None
        reserve = max(1, self.max_jobs // (4 * len(self._limits)))
        return Capacity(
            self._limits, self._calls.by_lane, free_slots, reserve, self._calls.quarantined
        )

    def _start(self, lease: Lease, asked_at: float) -> None:
        stop_at = self._leases.stop_time(asked_at)
        # Before Redis answered, a signal may have come, or this process may have stood still.
        if not self.allow_pick_jobs or now() >= stop_at:
            self._settle(Settlement(lease, "release"))
            return
        call = self.loop.create_task(self._run(lease))
        self.tasks[lease.lease_id] = call
        self._calls.add(lease, call, stop_at)
        self._leases.renew_soon(stop_at)
        call.add_done_callback(lambda call: self._done(lease, call))

    def _done(self, lease: Lease, call: asyncio.Task[Settlement]) -> None:
        self._calls.remove(lease)
        del self.tasks[lease.lease_id]
        # A call is stopped because its job was cancelled, its lease was lost or the process stops.
        # Release it in each case: the script ignores an item that is gone or leased by another.
        self._settle(Settlement(lease, "release") if call.cancelled() else call.result())

    def _settle(self, settlement: Settlement) -> None:
        self._settlements.append(settlement)
        self._wake.set()

    async def _run(self, lease: Lease) -> Settlement:
        """Runs the item's task. Whatever happens, the lease is settled."""
        try:
            settled = settlement(lease, await execute(lease, self.functions, self.ctx))
        except Exception as error:  # noqa: BLE001 — an item that breaks its task must finish, too
            # Only the error's type: its text may hold a prompt.
            log.critical("task_crashed", item=lease.item_id, error=type(error).__name__)
            self.jobs_failed += 1
            return settlement(lease, internal_error(lease))
        if settled.outcome == "retry":
            self.jobs_retried += 1
        else:
            self.jobs_complete += 1
        return settled

    async def _sign_off(self) -> None:
        """Sends what is left to settle, and takes this worker off the lists of workers."""
        with suppress(RedisUnavailable, TimeoutError):
            async with asyncio.timeout(SIGN_OFF_S):
                if self._settlements:
                    await self._queue.settle_and_claim(self._settlements, None)
                await self._queue.unregister_worker(self._worker_id)
                await self._reporter.leave()
