"""What there is to see, for any number of viewers: looked at once a second, however many."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Generic, TypeVar

from redis.exceptions import RedisError

from shared.jobs.service import Jobs
from shared.models import JobSummary
from shared.monitoring.models import History, Live, Overview
from shared.monitoring.monitor import Monitor

TICK_S = 1.0
LOOK_S = 2.0  # the page thinks the API dead when it has said nothing for a little longer
JOBS_SHOWN = 20
OWNERS_KEPT = 100

T = TypeVar("T")


class OverviewFeed:
    def __init__(self, monitor: Monitor, jobs: Jobs) -> None:
        self._overview = _Fresh(monitor.overview)
        self._history = _Fresh(monitor.history)
        self._jobs = jobs
        self._owned: dict[str, _Fresh[list[JobSummary]]] = {}
        self._closing = asyncio.Event()

    def close(self) -> None:
        """The process stops: whoever looks is to look elsewhere."""
        self._closing.set()

    async def overview(self) -> Overview:
        return await self._overview()

    async def history(self) -> History:
        return await self._history()

    async def events(self, owner: str) -> AsyncIterator[Live | None]:
        """None: Redis cannot say."""
        while not self._closing.is_set():
            try:
                async with asyncio.timeout(LOOK_S):
                    live = Live(overview=await self._overview(), jobs=await self._newest(owner))
            except (RedisError, OSError):
                live = None
            yield live
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._closing.wait()

    async def _newest(self, owner: str) -> list[JobSummary]:
        if owner not in self._owned:

            async def newest() -> list[JobSummary]:
                found, _ = await self._jobs.list_jobs(owner, None, None, JOBS_SHOWN)
                return found

            if len(self._owned) >= OWNERS_KEPT:
                self._owned.clear()
            self._owned[owner] = _Fresh(newest)
        return await self._owned[owner]()


class _Fresh(Generic[T]):
    """What was asked for less than `TICK_S` ago is not asked for again."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._value: T | None = None
        self._asked_at = -TICK_S

    async def __call__(self) -> T:
        async with self._asking:
            if self._value is None or monotonic() - self._asked_at >= TICK_S * 0.9:
                self._value = await self._ask()
                self._asked_at = monotonic()
            return self._value
