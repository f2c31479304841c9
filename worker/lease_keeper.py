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

# All these values are fractions of a lease's duration. So the number of renewals that may fail
# before a call is stopped does not depend on LEASE_SECONDS.
RENEW_EVERY = 1 / 3
RENEW_TIMEOUT = 1 / 5
RETRY_AFTER = 1 / 15
CHECK_EVERY = 1 / 15
# A call is stopped this long before its lease expires, because another worker may claim the item as
# soon as the lease has expired.
STOP_MARGIN = 1 / 5
RENEW_AT_ONCE_BELOW = 1 / 2

log = structlog.get_logger()


class LeaseKeeper:
    """Renews the leases of the running calls, and of ended calls whose settlement is not sent yet.

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

        settlements: the settlements that wait for a round. Their leases are renewed, too: if such a
            lease expired, its item would run again although its call has ended.
        """
        self._queue = queue
        self._worker_id = worker_id
        self._calls = calls
        self._metrics = metrics
        self._settlements = settlements
        self._lease_s = lease_s
        self._renew_now = asyncio.Event()

    def stop_time(self, asked_at: float) -> float:
        """Returns the time when a call must stop, on the clock of `running_calls.now`.

        asked_at: the time before Redis was asked to grant or renew the call's lease.
        """
        return asked_at + self._lease_s * (1 - STOP_MARGIN)

    def renew_now(self) -> None:
        """Makes `renew_forever` renew all leases now instead of at the end of the interval."""
        self._renew_now.set()

    def renew_soon(self, stop_at: float) -> None:
        """Calls `renew_now` if less than half of a lease's duration is left until `stop_at`.

        This happens if Redis took long to answer the claim.
        """
        if stop_at - now() < self._lease_s * RENEW_AT_ONCE_BELOW:
            self.renew_now()

    async def renew_forever(self) -> None:
        """Renews all leases regularly, until cancelled. Each renewal marks the worker as alive.

        Stops the calls whose leases Redis does not have any more, and the calls of ended jobs.
        """
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
        """Stops each call whose lease was not renewed in time. Runs until cancelled.

        The item of a stopped call runs again, on this or another worker.
        """
        while True:
            if stopped := self._calls.stop_expired():
                log.warning("leases_not_renewed", calls_stopped=stopped)
                self._metrics.leases_lost.inc(stopped)
            await asyncio.sleep(self._lease_s * CHECK_EVERY)
