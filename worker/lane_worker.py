"""arq's worker with admission at the claim: it takes an item only when the item may run."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from typing import Any

import structlog
from arq.worker import Worker
from redis.exceptions import RedisError

from shared.models import ErrorCode
from shared.monitoring.reports import ReportWriter
from shared.queue.claims import Capacity, Lease, Queue, Settlement
from shared.queue.codec import decode_payload
from shared.queue.keys import Keys
from shared.queue.results import Result
from shared.redis.pubsub import listen
from worker.leases import HeldLeases, now
from worker.metrics import WorkerMetrics
from worker.outcomes import Attempt, Finished, Retry, TaskOutcome
from worker.stats_reporter import StatsReporter

SAFETY_POLL_S = 5.0  # should a message have been lost
REDIS_RETRY_S = 0.25
STARTS_AT_ONCE = 8  # calls
FLUSH_S = 5.0  # for the last settlements at the end of the process

log = structlog.get_logger()


class LaneWorker(Worker):
    """Replaces what arq does between queue and function; its registered functions, serializers,
    signals and life cycle are arq's. A function bounds its own time.

    Four tasks: the channel wakes, the exchange settles and claims in one round trip, the heartbeat
    renews the leases, and the watch stops the calls whose lease could not be renewed. A fifth tells
    those who look.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        reports: ReportWriter,
        telemetry: WorkerMetrics,
        keys: Keys,
        worker_id: str,
        limits: Mapping[str, int],
        lease_s: float,
        **arq: Any,  # noqa: ANN401 — passed on to arq.Worker
    ) -> None:
        super().__init__(**arq)
        self._queue = queue
        self._keys = keys
        self._worker_id = worker_id
        self._limits = limits
        self._lease_s = lease_s
        self._held = HeldLeases()
        self._telemetry = telemetry
        self._telemetry.show_lanes(limits, self._held.running)
        self._reporter = StatsReporter(
            reports, telemetry.calls, worker_id, limits=limits, running=self._held.running
        )
        self._settlements: list[Settlement] = []
        self._wake = asyncio.Event()
        self._renew_now = asyncio.Event()
        self._round: asyncio.Task[float | None] | None = None

    async def main(self) -> None:
        if self.on_startup:
            await self.on_startup(self.ctx)
        log.info("worker_started", worker=self._worker_id, limits=dict(self._limits))
        handlers = {
            self._keys.wake: lambda _: self._wake.set(),
            self._keys.job_cancelled: self._held.stop_job,
        }
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(listen(self.pool, handlers, self._reconnected))
                group.create_task(self._heartbeat())
                group.create_task(self._watch_leases())
                group.create_task(self._exchange())
                group.create_task(self._reporter.run())
        finally:
            self.allow_pick_jobs = False
            if self._round:
                await self._round
            for call in self.tasks.values():
                call.cancel()
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)
            await self._leave()

    async def close(self) -> None:
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.pool.aclose()
        log.info("worker_stopped", worker=self._worker_id, complete=self.jobs_complete)

    def _reconnected(self) -> None:
        """This may be another Redis, which was a replica and knows less: ask it at once which of
        the leases it knows, too."""
        self._wake.set()
        self._renew_now.set()

    async def _exchange(self) -> None:
        """A round with Redis whenever something ended or may run."""
        timer: asyncio.TimerHandle | None = None
        while True:
            await self._wake.wait()
            self._wake.clear()
            if timer:
                timer.cancel()
            # Shielded: a round that is cut off would lose the leases that Redis has handed out.
            self._round = self.loop.create_task(self._exchange_once())
            next_round_s = await asyncio.shield(self._round)
            delay_s = SAFETY_POLL_S * random.uniform(0.8, 1.2)  # noqa: S311 — spreads the workers
            if next_round_s is not None:
                delay_s = min(delay_s, next_round_s + 0.001)
            timer = self.loop.call_later(delay_s, self._wake.set)

    async def _exchange_once(self) -> float | None:
        """Settles what ended, claims what may run; returns when to ask again, if it is known."""
        settlements = list(self._settlements)
        capacity = self._capacity()
        if not settlements and capacity is None:
            return None
        sent_at = now()
        try:
            claimed = await self._queue.settle_and_claim(settlements, capacity)
        except (RedisError, OSError) as error:
            log.warning("redis_away", error=type(error).__name__)
            self._telemetry.redis_errors.inc()
            return REDIS_RETRY_S
        if capacity:
            self._telemetry.claims.inc()
            self._telemetry.claimed.inc(len(claimed.leases))
        # Only what Redis has confirmed; what is sent again changes nothing.
        del self._settlements[: len(settlements)]
        for number, lease in enumerate(claimed.leases, 1):
            self._start(lease, sent_at)
            if number % STARTS_AT_ONCE == 0:
                await asyncio.sleep(0)  # uvloop sends at the end of its loop's round
        return claimed.next_round_s

    def _capacity(self) -> Capacity | None:
        places = self.max_jobs - len(self._held)
        if places <= 0 or not self.allow_pick_jobs:
            return None
        reserve = max(1, self.max_jobs // (4 * len(self._limits)))
        return Capacity(self._limits, self._held.running, places, reserve, self._held.quarantined)

    def _start(self, lease: Lease, claimed_at: float) -> None:
        ends_at = claimed_at + self._lease_s - self._margin_s
        # While Redis answered the signal came, or this process stood still for too long.
        if not self.allow_pick_jobs or now() >= ends_at:
            self._settle(Settlement(lease, "release"))
            return
        call = self.loop.create_task(self._run(lease))
        self.tasks[lease.lease_id] = call
        self._held.add(lease, call, ends_at)
        if ends_at - now() < self._lease_s / 2:  # Redis was slow: do not leave it to the heartbeat
            self._renew_now.set()
        call.add_done_callback(lambda call: self._ended(lease, call))

    def _ended(self, lease: Lease, call: asyncio.Task[Settlement]) -> None:
        self._held.remove(lease)
        del self.tasks[lease.lease_id]
        # A call is stopped because its job was cancelled, its lease was lost or the process ends.
        # Release it in each case: the script ignores an item that is gone or leased by another.
        self._settle(Settlement(lease, "release") if call.cancelled() else call.result())

    def _settle(self, settlement: Settlement) -> None:
        self._settlements.append(settlement)
        self._wake.set()

    async def _run(self, lease: Lease) -> Settlement:
        """Run the item's task; whatever happens, the item gets a settlement."""
        try:
            settlement = _settlement(lease, await self._call_task(lease))
        except Exception as error:  # noqa: BLE001 — an item that breaks its task must finish, too
            # Only the error's type: its text may hold a prompt.
            log.critical("task_crashed", item=lease.item_id, error=type(error).__name__)
            self.jobs_failed += 1
            return _settlement(lease, Finished(_internal_error(lease)))
        if settlement.outcome == "retry":
            self.jobs_retried += 1
        else:
            self.jobs_complete += 1
        return settlement

    async def _call_task(self, lease: Lease) -> TaskOutcome:
        name, args = decode_payload(lease.payload)
        attempt = Attempt(
            item_id=lease.item_id,
            number=lease.attempts + 1,
            queued_ms=lease.queued_ms,
            retried_ms=lease.retried_ms,
            remaining_s=inf if lease.remaining_ms is None else max(lease.remaining_ms, 0) / 1000,
        )
        outcome: TaskOutcome = await self.functions[name].coroutine(self.ctx, attempt, *args)
        return outcome

    @property
    def _margin_s(self) -> float:
        """A call is stopped this long before its lease ends."""
        return self._lease_s / 5

    async def _heartbeat(self) -> None:
        while True:
            self._renew_now.clear()
            leases = self._held.leases
            sent_at = now()
            try:
                async with asyncio.timeout(self._lease_s / 5):
                    stop = await self._queue.renew(self._worker_id, leases)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("lease_renewal_failed", error=type(error).__name__)
                self._telemetry.redis_errors.inc()
                await asyncio.sleep(self._lease_s / 15)
            else:
                self._held.prolong(leases, sent_at + self._lease_s - self._margin_s)
                self._telemetry.leases_lost.inc(self._held.stop(stop))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._lease_s / 3):
                        await self._renew_now.wait()

    async def _watch_leases(self) -> None:
        """Apart from the heartbeat, which may be waiting for Redis just then."""
        while True:
            if stopped := self._held.stop_ended():
                log.warning("leases_ended", calls_stopped=stopped)
                self._telemetry.leases_lost.inc(stopped)
            await asyncio.sleep(self._lease_s / 15)

    async def _leave(self) -> None:
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                if self._settlements:
                    await self._queue.settle_and_claim(self._settlements, None)
                await self._queue.unregister_worker(self._worker_id)
                await self._reporter.leave()


def _settlement(lease: Lease, outcome: TaskOutcome) -> Settlement:
    match outcome:
        case Finished(result, pause):
            return Settlement(
                lease,
                "fail" if result.error else "complete",
                result.to_json(),
                latency_ms=result.latency_ms,
                pause=pause,
            )
        case Retry(delay_s, pause):
            return Settlement(lease, "retry", delay_s=delay_s, pause=pause)


def _internal_error(lease: Lease) -> Result:
    return Result(
        error="internal error",
        error_code=ErrorCode.INTERNAL_ERROR,
        attempts=lease.attempts + 1,
        queued_ms=lease.queued_ms,
        retried_ms=lease.retried_ms,
    )
