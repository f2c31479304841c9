"""Renews the leases of running calls, and stops each call whose lease is not renewed in time."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from shared.queue.claims import Queue
from shared.queue.leases import Settlement
from shared.redis.client import RedisUnavailable
from worker.metrics import WorkerMetrics
from worker.running_calls import RunningCalls, now

# All these values are fractions of a lease's duration. So a renewal has the same number of retries
# before the call is stopped, whatever LEASE_SECONDS is.
RENEW_EVERY = 1 / 3
RENEW_TIMEOUT = 1 / 5
RETRY_AFTER = 1 / 15
CHECK_EVERY = 1 / 15
# A call is stopped this long before its lease expires, because then another worker may claim the
# item.
STOP_MARGIN = 1 / 5
RENEW_AT_ONCE_BELOW = 1 / 2

log = structlog.get_logger()


class LeaseKeeper:
    """Keeps the leases of the running calls, and of the calls that wait for their settlement.

    `renew_forever` and `stop_expired_forever` must run as two asyncio tasks, because
    `stop_expired_forever` must not wait for Redis: it stops calls when Redis does not answer.
    """

    def __init__(
        self,
        queue: Queue,
        worker_id: str,
        calls: RunningCalls,
        metrics: WorkerMetrics,
        *,
        settlements: Sequence[Settlement],
        lease_s: float,
    ) -> None:
        """Creates a keeper.

        settlements: the settlements that wait for a round. The keeper renews their leases, too: if
            a lease expired, its item would run again, although the item has been answered.
        """
        self._queue = queue
        self._worker_id = worker_id
        self._calls = calls
        self._metrics = metrics
        self._settlements = settlements
        self._lease_s = lease_s
        self._renew_now = asyncio.Event()

    def stop_time(self, asked_at: float) -> float:
        """Returns the time when a call must stop, if its lease was requested at `asked_at`."""
        return asked_at + self._lease_s * (1 - STOP_MARGIN)

    def renew_now(self) -> None:
        """Renews all leases now instead of at the end of the interval."""
        self._renew_now.set()

    def renew_soon(self, stop_at: float) -> None:
        """Makes `renew_forever` renew all leases now, if less than half of a lease is left until
        `stop_at`.

        So little is left if Redis took long to answer the claim.
        """
        if stop_at - now() < self._lease_s * RENEW_AT_ONCE_BELOW:
            self.renew_now()

    async def renew_forever(self) -> None:
        """Renews all leases regularly, until cancelled. This also marks the worker as alive."""
        while True:
            self._renew_now.clear()
            leases = self._calls.leases + [waiting.lease for waiting in self._settlements]
            asked_at = now()
            try:
                async with asyncio.timeout(self._lease_s * RENEW_TIMEOUT):
                    lost = await self._queue.renew(self._worker_id, leases)
            except (RedisUnavailable, TimeoutError):
                self._metrics.redis_errors.inc()
                await asyncio.sleep(self._lease_s * RETRY_AFTER)
            else:
                self._calls.extend(leases, self.stop_time(asked_at))
                self._metrics.leases_lost.inc(self._calls.stop(lost))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._lease_s * RENEW_EVERY):
                        await self._renew_now.wait()

    async def stop_expired_forever(self) -> None:
        """Stops each call whose lease was not renewed in time, until cancelled.

        The call's item runs again, on this or another worker.
        """
        while True:
            if stopped := self._calls.stop_expired():
                log.warning("leases_not_renewed", calls_stopped=stopped)
                self._metrics.leases_lost.inc(stopped)
            await asyncio.sleep(self._lease_s * CHECK_EVERY)
