"""Reads the overview, the history and the newest jobs of each owner, at most about once a
second for all clients of this process together.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Generic, TypeVar

from api.streams.stream_formats import server_sent_event
from shared.jobs.service import Jobs
from shared.models import JobSummary
from shared.monitoring.models import History, Overview, OverviewEvent
from shared.monitoring.monitor import Monitor
from shared.redis.client import RedisUnavailable

INTERVAL_S = 1.0
READ_TIMEOUT_S = 1.5  # this and INTERVAL_S are less than the dashboard's limit for silence
MAX_JOBS = 20
MAX_CACHED_OWNERS = 100  # limit of owners whose newest jobs are cached

T = TypeVar("T")


class OverviewFeed:
    """Reads and caches the overview, the history and each owner's newest jobs.

    `overview` and `history` raise RedisUnavailable.
    """

    def __init__(self, monitor: Monitor, jobs: Jobs) -> None:
        self._overview = _Cached(monitor.overview)
        self._history = _Cached(monitor.history)
        self._jobs = jobs
        self._newest_jobs: dict[str, _Cached[list[JobSummary]]] = {}  # owner → newest jobs
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Ends all event streams, because this process is shutting down."""
        self._closing.set()

    async def overview(self) -> Overview:
        return await self._overview()

    async def history(self) -> History:
        return await self._history()

    async def events(self, owner: str) -> AsyncIterator[bytes]:
        """Yields a server-sent event each second: `live`, or `trouble` if Redis is unavailable.

        If Redis does not answer at all, `trouble` comes each `READ_TIMEOUT_S`. `close` ends the
        events.
        """
        while not self._closing.is_set():
            next_at = monotonic() + INTERVAL_S
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    live = OverviewEvent(
                        overview=await self._overview(), jobs=await self._newest(owner)
                    )
            except (RedisUnavailable, TimeoutError):
                yield server_sent_event("trouble", '{"detail":"Redis is unavailable"}')
            else:
                yield server_sent_event("live", live.model_dump_json())
            with suppress(TimeoutError):
                async with asyncio.timeout(next_at - monotonic()):
                    await self._closing.wait()

    async def _newest(self, owner: str) -> list[JobSummary]:
        if owner not in self._newest_jobs:

            async def newest() -> list[JobSummary]:
                jobs, _ = await self._jobs.list_jobs(owner, None, None, MAX_JOBS)
                return jobs

            if len(self._newest_jobs) >= MAX_CACHED_OWNERS:
                self._newest_jobs.clear()
            self._newest_jobs[owner] = _Cached(newest)
        return await self._newest_jobs[owner]()


class _Cached(Generic[T]):
    """Keeps a value for almost `INTERVAL_S`. Concurrent callers share one read."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._lock = asyncio.Lock()
        self._value: T | None = None
        self._read_at = -INTERVAL_S

    async def __call__(self) -> T:
        async with self._lock:
            # Slightly less than the interval, so that a caller gets a new value each second.
            if self._value is None or monotonic() - self._read_at >= INTERVAL_S * 0.9:
                self._value = await self._read()
                self._read_at = monotonic()
            return self._value
