"""Streams the items of jobs as they finish, to any number of readers."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from redis.exceptions import RedisError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from api.job_events import FOLLOWED_S, JobEvents
from shared.jobs.result_reader import JobReader
from shared.jobs.service import READ_AT_ONCE
from shared.jobs.store import Store
from shared.models import JobItem

READERS_AT_ONCE = 8  # of Redis: the others of the pool's connections are for requests
HEARTBEAT_S = 15.0
REDIS_RETRY_S = 0.25
REDIS_PATIENCE_S = 30.0


class Interrupted(Exception):
    """The stream cannot be whole: this process stops, or Redis does not answer."""


class ResultStream:
    def __init__(self, store: Store, events: JobEvents) -> None:
        self._store = store
        self._events = events
        self._reading = asyncio.Semaphore(READERS_AT_ONCE)

    async def pages(
        self, reader: JobReader, *, until: float | None = None
    ) -> AsyncIterator[list[JobItem]]:
        """Items as soon as they have ended, until all have, or until that moment of `monotonic`. An
        empty page: nothing has come for a while. Raises Interrupted, RedisError, JobNotFound."""
        with self._events.subscribe(reader.job_id) as changes:
            await self._store.follow([reader.job_id], FOLLOWED_S)
            most = READ_AT_ONCE
            while True:
                page = await self._read(reader, most)
                # In order, one that has not ended may hold up many: look at that one alone.
                most = READ_AT_ONCE if page else 1
                if page:
                    yield page
                if reader.at_end:
                    return
                if page:
                    continue
                if self._events.closed:
                    raise Interrupted
                left_s = HEARTBEAT_S if until is None else min(HEARTBEAT_S, until - monotonic())
                if left_s <= 0:
                    return
                if not await changes.wait(left_s):
                    yield []

    async def ended(self, reader: JobReader) -> AsyncIterator[list[JobItem]]:
        """What there is now."""
        while page := await self._read(reader, READ_AT_ONCE):
            yield page

    async def _read(self, reader: JobReader, most: int) -> list[JobItem]:
        patiently = AsyncRetrying(
            retry=retry_if_exception_type((RedisError, OSError)),
            stop=stop_after_delay(REDIS_PATIENCE_S),
            wait=wait_fixed(REDIS_RETRY_S),
            reraise=True,
        )
        async with self._reading:
            return await patiently(reader.next, most)
