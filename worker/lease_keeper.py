"""Renews the leases of running calls, and stops each call whose lease is not renewed in time."""

import asyncio
from contextlib import suppress

import structlog

from shared.queue.claims import Queue
from shared.redis.client import RedisUnavailable
from worker.metrics import WorkerMetrics
from worker.running_calls import RunningCalls, now

# Parts of a lease's duration.
RENEW_EVERY = 1 / 3
RENEW_TIMEOUT = 1 / 5
RETRY_AFTER = 1 / 15
CHECK_EVERY = 1 / 15
STOP_MARGIN = 1 / 5  # a call stops this long before its lease expires and others may run the item
RENEW_AT_ONCE_BELOW = 1 / 2

log = structlog.get_logger()


class LeaseKeeper:
    """Run `renew_forever` and `stop_expired_forever` as two tasks.

    The second must not wait for Redis, because it acts when Redis does not answer.
    """

    def __init__(
        self,
        queue: Queue,
        worker_id: str,
        calls: RunningCalls,
        metrics: WorkerMetrics,
        *,
        lease_s: float,
    ) -> None:
        self._queue = queue
        self._worker_id = worker_id
        self._calls = calls
        self._metrics = metrics
        self._lease_s = lease_s
        self._renew_now = asyncio.Event()

    def stop_time(self, asked_at: float) -> float:
        """Returns when a call must stop whose lease Redis was asked for at `asked_at`."""
        return asked_at + self._lease_s * (1 - STOP_MARGIN)

    def renew_now(self) -> None:
        """Renews the leases now instead of at the next interval."""
        self._renew_now.set()

    def renew_soon(self, stop_at: float) -> None:
        """Renews at once if a new lease has used much of its time on its way from Redis."""
        if stop_at - now() < self._lease_s * RENEW_AT_ONCE_BELOW:
            self.renew_now()

    async def renew_forever(self) -> None:
        """Renews all leases again and again, which also shows others that this worker is alive."""
        while True:
            self._renew_now.clear()
            leases = self._calls.leases
            asked_at = now()
            try:
                async with asyncio.timeout(self._lease_s * RENEW_TIMEOUT):
                    lost = await self._queue.renew(self._worker_id, leases)
            except (RedisUnavailable, TimeoutError) as error:
                log.warning("lease_renewal_failed", reason=str(error) or "Redis did not answer")
                self._metrics.redis_errors.inc()
                await asyncio.sleep(self._lease_s * RETRY_AFTER)
            else:
                self._calls.extend(leases, self.stop_time(asked_at))
                self._metrics.leases_lost.inc(self._calls.stop(lost))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._lease_s * RENEW_EVERY):
                        await self._renew_now.wait()

    async def stop_expired_forever(self) -> None:
        """Stops the calls whose time is over. Their items run again, here or on another worker."""
        while True:
            if stopped := self._calls.stop_expired():
                log.warning("leases_expired", calls_stopped=stopped)
                self._metrics.leases_lost.inc(stopped)
            await asyncio.sleep(self._lease_s * CHECK_EVERY)
