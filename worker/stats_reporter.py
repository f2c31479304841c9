"""Reports the state and the call counts of this worker to Redis, for the overview."""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from shared.monitoring.reports import Report, ReportWriter
from shared.redis.client import RedisUnavailable
from worker.call_metrics import CallMetrics

REPORT_S = 2.0


class StatsReporter:
    """Sends reports. If Redis is unavailable, the next report includes the missing counts."""

    def __init__(
        self,
        reports: ReportWriter,
        calls: CallMetrics,
        worker_id: str,
        *,
        limits: Mapping[str, int],
        configured: Collection[str],
        rules: Mapping[str, Mapping[str, Any]],
        running: Mapping[str, int],
    ) -> None:
        """Creates a reporter.

        limits, configured, rules: the same as in `Report`.
        running: the number of running calls by lane. Each report reads the mapping again.
        """
        self._reports = reports
        self._calls = calls
        self._worker_id = worker_id
        self._limits = limits
        self._configured = configured
        self._rules = rules
        self._running = running
        self._started = monotonic()

    async def run(self) -> None:
        """Reports every `REPORT_S` seconds until cancelled."""
        while True:
            await self._report()
            await asyncio.sleep(REPORT_S)

    async def leave(self) -> None:
        """Sends the last report and removes this worker from the overview."""
        await self._report()
        with suppress(RedisUnavailable):
            await self._reports.remove(self._worker_id)

    async def _report(self) -> None:
        report = Report(
            worker_id=self._worker_id,
            uptime_s=monotonic() - self._started,
            running=dict(self._running),
            limits=self._limits,
            configured=self._configured,
            rules=self._rules,
        )
        counts = self._calls.unreported()
        with suppress(RedisUnavailable):
            await self._reports.write(report, counts)
            self._calls.mark_reported(counts)
