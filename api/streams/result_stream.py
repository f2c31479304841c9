"""Reads the items of jobs as they finish, for any number of readers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from time import monotonic

from api.redis_retry import STREAM_RETRY_S, redis_retry
from api.streams.job_updates import PUBLISH_PROGRESS_S, JobUpdates
from shared.jobs.result_reader import JobReader, PageTooSmall
from shared.jobs.service import PAGE_BYTES, PAGE_ITEMS, JobNotFound
from shared.jobs.staging import Meta
from shared.jobs.store import Store
from shared.jobs.views import StoredJob, response, response_json
from shared.memory_budget import MemoryBudget, Reservation
from shared.models import JobItem, LLMResponse

MAX_CONCURRENT_READS = 8  # limit of reads; other connections to Redis stay free for requests
READ_AGAIN_S = 15.0  # time after which a stream reads again, because a message may be lost
PAGES_SHARE = 6  # pages of results have 1/6 of API_MEMORY_BYTES, bodies of requests the rest
READ_COST = 8  # bytes of memory that a byte of a result takes until it is encoded


class StreamInterrupted(Exception):
    """The stream cannot be completed. `str(error)` is the reason."""


class Page(list[JobItem]):
    """Holds items, and the bytes that are reserved for the items until the next page is read."""

    __slots__ = ("held",)

    def __init__(self, items: Iterable[JobItem], held: Reservation) -> None:
        super().__init__(items)
        self.held = held


class ResultStream:
    """Reads pages of items. Each read waits until `memory` has room for a page."""

    def __init__(self, store: Store, updates: JobUpdates, memory: MemoryBudget) -> None:
        self._store = store
        self._updates = updates
        self._memory = memory
        self._reads = asyncio.Semaphore(MAX_CONCURRENT_READS)

    async def pages(self, reader: JobReader, *, until: float | None = None) -> AsyncIterator[Page]:
        """Yields pages of items as they finish, until all items have finished, or until `until`.

        `until` is a value of `time.monotonic`, or None. Raises StreamInterrupted when this process
        shuts down, RedisUnavailable after `STREAM_RETRY_S`, JobNotFound and CursorOutOfRange.
        """
        with self._updates.subscribe(reader.job_id) as changes, self._memory.reservation() as held:
            await self._store.follow_progress([reader.job_id], PUBLISH_PROGRESS_S)
            limit = PAGE_ITEMS
            while True:
                page = await self._read(reader, limit, held)
                # In the order of the requests, many finished items may have to wait for an
                # unfinished item. After an empty page, only the unfinished item is read.
                has_items = bool(page)  # the consumer empties the page
                limit = PAGE_ITEMS if has_items else 1
                if has_items:
                    yield page
                if reader.at_end:
                    return
                if has_items:
                    continue
                if self._updates.closed:
                    raise StreamInterrupted("the API process is shutting down")
                left_s = READ_AGAIN_S if until is None else min(READ_AGAIN_S, until - monotonic())
                if left_s <= 0:
                    return
                await changes.wait(left_s)

    async def finished_pages(self, reader: JobReader) -> AsyncIterator[Page]:
        """Yields pages of finished items, up to the first item that has not finished."""
        with self._memory.reservation() as held:
            while page := await self._read(reader, PAGE_ITEMS, held):
                yield page

    async def encoded(self, job: StoredJob, before: bytes, after: bytes) -> AsyncIterator[bytes]:
        """Yields a JSON text with the results of a job of up to 100 items, in parts.

        `before` and `after` surround the results. Only one part is in memory at a time. Raises
        RedisUnavailable and JobNotFound.
        """
        with self._memory.reservation() as held:
            position = 0
            while position < job.snapshot.total:
                page = await self._read_results(job, position, held)
                texts = [response_json(meta, stored, job.snapshot) for meta, stored in page]
                chunk = b"".join((b"," if position else before, b",".join(texts)))
                position += len(page)
                del page, texts
                held.resize(len(chunk))
                yield chunk
            yield after

    async def answer(self, job: StoredJob, held: Reservation) -> LLMResponse | None:
        """Returns the result of a job of one item, or None if the item has not finished.

        If the result is large, its bytes stay reserved in `held`.
        """
        metas, results = job.snapshot.metas, job.snapshot.results
        if metas is None or results is None:
            [item] = await self._read_results(job, 0, held)
        else:
            item = metas[0], results.get(0)
        return response(*item, job.snapshot)

    async def _read_results(
        self, job: StoredJob, position: int, held: Reservation
    ) -> list[tuple[Meta, bytes | None]]:
        """Returns results from `position` on, as many as a page may have, but at least one."""
        indexes = range(position, job.snapshot.total)
        max_bytes = PAGE_BYTES
        while True:
            await held.replace(READ_COST * max_bytes)
            read = partial(self._store.read_results, job.job_id, indexes, max_bytes=max_bytes)
            found: tuple[Sequence[tuple[Meta | None, bytes | None]], int]
            async with self._reads:
                found = await redis_retry(STREAM_RETRY_S)(read)
            page, next_bytes = found
            results = [(meta, stored) for meta, stored in page if meta is not None]
            if len(results) < len(page):
                raise JobNotFound(job.job_id)
            if results:
                return results
            max_bytes = next_bytes

    async def _read(self, reader: JobReader, limit: int, held: Reservation) -> Page:
        max_bytes = PAGE_BYTES
        while True:
            await held.replace(READ_COST * max_bytes)
            items: list[JobItem]
            async with self._reads:
                try:
                    items = await redis_retry(STREAM_RETRY_S)(reader.next, limit, max_bytes)
                except PageTooSmall as error:
                    max_bytes = error.bytes
                    continue
            if not items:
                held.resize(0)
            return Page(items, held)


_WITHOUT_ANSWER = {
    "content": "",
    "message": None,
    "choices": None,
    "logprobs": None,
    "body": None,
}


async def filter_items(
    pages: AsyncIterator[Page],
    keep: Callable[[JobItem], bool],
    *,
    limit: int | None,
    content: bool,
) -> AsyncIterator[Page]:
    """Yields the pages with only the items that `keep` accepts, at most `limit` items in all.

    If `limit` is None, the number is not limited. If `content` is false, the answers are removed.
    """
    remaining = limit
    async with aclosing(pages):  # type: ignore[type-var]
        async for page in pages:
            page[:] = [item for item in page if keep(item)][:remaining]
            if not content:
                page[:] = [item.model_copy(update=_WITHOUT_ANSWER) for item in page]
            if remaining is not None:
                remaining -= len(page)
            yield page
            if remaining == 0:
                return
