"""Runs the tasks that must run even while there is no worker. Every API process runs the tasks."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from shared.monitoring.reports import ReportWriter
from shared.queue.claims import Queue
from shared.redis.client import RedisUnavailable

INTERVAL_S = 5.0


async def run_periodic_tasks(queue: Queue, reports: ReportWriter) -> None:
    """Ends jobs whose deadline has passed, and records the queues' history, until cancelled.

    If Redis is unavailable, tries again after `INTERVAL_S`.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(_repeat(partial(_expire_overdue, queue)))
        group.create_task(_repeat(reports.write_levels))


async def _expire_overdue(queue: Queue) -> None:
    while await queue.expire_overdue():
        pass


async def _repeat(task: Callable[[], Awaitable[None]]) -> None:
    while True:
        with suppress(RedisUnavailable):
            await task()
        await asyncio.sleep(INTERVAL_S)
