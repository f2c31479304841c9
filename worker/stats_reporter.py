"""Reports of this worker, for whoever looks; they hold nothing up."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic

from redis.exceptions import RedisError

from shared.monitoring.monitor import Monitor, Report
from worker.call_metrics import CallMetrics

REPORT_S = 2.0


class Reporter:
    def __init__(
        self,
        monitor: Monitor,
        tally: CallMetrics,
        worker_id: str,
        *,
        limits: Mapping[str, int],
        running: Mapping[str, int],
    ) -> None:
        """`running` is read anew each time."""
        self._monitor = monitor
        self._tally = tally
        self._worker_id = worker_id
        self._limits = limits
        self._running = running
        self._started = monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._report()
            await asyncio.sleep(REPORT_S)

    async def leave(self) -> None:
        await self._report()
        with suppress(RedisError, OSError):
            await self._monitor.leave(self._worker_id)

    async def _report(self) -> None:
        report = Report(
            self._worker_id, monotonic() - self._started, dict(self._running), self._limits
        )
        counts = self._tally.counts()
        with suppress(RedisError, OSError):
            await self._monitor.report(report, counts)
            self._tally.reported(counts)
