"""Reads the items of jobs as they finish, for any number of readers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from time import monotonic

from api.job_events import PUBLISH_PROGRESS_S, JobEvents
from api.redis_retry import redis_retry
from shared.jobs.result_reader import JobReader
from shared.jobs.service import PAGE_ITEMS
from shared.jobs.store import Store
from shared.models import JobItem

MAX_CONCURRENT_READS = 8  # limit of reads; other connections to Redis stay free for requests
READ_AGAIN_S = 15.0  # time after which a stream reads again, because a message may be lost
RETRY_FOR_S = 30.0  # time for which a read is retried while Redis is unavailable


class StreamInterrupted(Exception):
    """The stream cannot be completed. `str(error)` is the reason."""


class ResultStream:
    def __init__(self, store: Store, events: JobEvents) -> None:
        self._store = store
        self._events = events
        self._reads = asyncio.Semaphore(MAX_CONCURRENT_READS)

    async def pages(
        self, reader: JobReader, *, until: float | None = None
    ) -> AsyncIterator[list[JobItem]]:
        """Yields pages of items as they finish, until all items have finished, or until `until`.

        `until` is a value of `time.monotonic`. Raises StreamInterrupted, RedisUnavailable and
        JobNotFound.
        """
        with self._events.subscribe(reader.job_id) as changes:
            await self._store.follow_progress([reader.job_id], PUBLISH_PROGRESS_S)
            limit = PAGE_ITEMS
            while True:
                page = await self._read(reader, limit)
                # In the order of the requests, many finished items may wait behind an unfinished
                # one. After an empty page, only that unfinished item is read.
                limit = PAGE_ITEMS if page else 1
                if page:
                    yield page
                if reader.at_end:
                    return
                if page:
                    continue
                if self._events.closed:
                    raise StreamInterrupted("the API process is shutting down")
                left_s = READ_AGAIN_S if until is None else min(READ_AGAIN_S, until - monotonic())
                if left_s <= 0:
                    return
                await changes.wait(left_s)

    async def finished_pages(self, reader: JobReader) -> AsyncIterator[list[JobItem]]:
        """Yields pages of finished items, and ends where it would have to wait for an item."""
        while page := await self._read(reader, PAGE_ITEMS):
            yield page

    async def _read(self, reader: JobReader, limit: int) -> list[JobItem]:
        async with self._reads:
            return await redis_retry(RETRY_FOR_S)(reader.next, limit)


_WITHOUT_ANSWER = {
    "content": "",
    "message": None,
    "choices": None,
    "logprobs": None,
    "body": None,
}


async def filter_items(
    pages: AsyncIterator[list[JobItem]],
    keep: Callable[[JobItem], bool],
    *,
    limit: int | None,
    content: bool,
) -> AsyncIterator[list[JobItem]]:
    """Yields the pages with only the items that `keep` accepts, at most `limit` items in all.

    If `content` is false, the answers are removed.
    """
    remaining = limit
    async with aclosing(pages):  # type: ignore[type-var]
        async for page in pages:
            items = [item for item in page if keep(item)][:remaining]
            if not content:
                items = [item.model_copy(update=_WITHOUT_ANSWER) for item in items]
            yield items
            if remaining is not None:
                remaining -= len(items)
                if not remaining:
                    return
