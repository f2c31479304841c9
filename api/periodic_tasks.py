"""Work that must be done even while no worker runs; every API process does it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from shared.monitoring.reports import ReportWriter
from shared.queue.claims import Queue
from shared.redis.client import RedisUnavailable

INTERVAL_S = 5.0


async def run_periodic_tasks(queue: Queue, reports: ReportWriter) -> None:
    """Expires overdue jobs and records the history of the queues, until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_repeat(queue.expire_overdue))
        group.create_task(_repeat(reports.write_levels))


async def _repeat(task: Callable[[], Awaitable[None]]) -> None:
    while True:
        with suppress(RedisUnavailable):
            await task()
        await asyncio.sleep(INTERVAL_S)
