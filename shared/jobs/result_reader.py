"""Reads a job's items in pages: in the order of the requests, or of their completion."""

from collections.abc import Sequence
from enum import StrEnum

from shared.jobs.index_set import IndexSet
from shared.jobs.service import PAGE_BYTES, PAGE_ITEMS, JobNotFound
from shared.jobs.snapshot import Snapshot
from shared.jobs.store import Store
from shared.jobs.views import response
from shared.models import JobItem


class Order(StrEnum):
    INDEX = "index"
    COMPLETION = "completion"


class CursorOutOfRange(ValueError):
    """The cursor is beyond the job's last item."""


class PageTooSmall(Exception):
    """The next item's result has more bytes than the page may have. `bytes` is its size."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.bytes = size


class JobReader:
    """Reads a job's items in the given order, beginning after the first `position` items.

    Each call of `next` continues after the items of the previous call. Raises RedisUnavailable,
    JobNotFound, CursorOutOfRange.
    """

    def __init__(
        self, store: Store, job_id: str, owner: str, *, order: Order, position: int
    ) -> None:
        self.job_id = job_id
        self._store = store
        self._owner = owner
        self._order = order
        self._position = position
        self._total: int | None = None
        self._unfinished: IndexSet | None = None

    @property
    def at_end(self) -> bool:
        return self._position == self._total

    async def next(self, limit: int = PAGE_ITEMS, max_bytes: int = PAGE_BYTES) -> list[JobItem]:
        """Returns up to `limit` finished items, with at most `max_bytes` of stored results in all.

        The list is empty if the next item has not finished, or if no item follows (`at_end`).
        Raises PageTooSmall if not even the next result fits.
        """
        snapshot = await self._store.snapshot(self.job_id, self._owner, max_items=0)
        if snapshot is None:
            raise JobNotFound(self.job_id)
        self._total = snapshot.total
        if self._position > snapshot.total:
            raise CursorOutOfRange
        indexes = await self._indexes(snapshot, limit)
        items: list[JobItem] = []
        if not indexes:
            return items
        results, next_bytes = await self._store.read_results(
            self.job_id, indexes, max_bytes=max_bytes
        )
        if not results:
            raise PageTooSmall(next_bytes)
        for index, (meta, stored) in zip(indexes, results, strict=False):
            if meta is None:
                raise JobNotFound(self.job_id)
            answer = response(meta, stored, snapshot)
            if answer is None:
                break
            self._position += 1
            items.append(JobItem(**dict(answer), index=index, cursor=self._position))
        return items

    async def _indexes(self, snapshot: Snapshot, limit: int) -> Sequence[int]:
        first = self._position
        if self._order is Order.INDEX:
            return range(first, min(first + limit, snapshot.total))
        if first < snapshot.finished:
            return await self._store.completion_order(self.job_id, first, limit)
        if snapshot.finished_ms is None:
            return ()
        unfinished = await self._unfinished_indexes(snapshot)
        return unfinished.page(first - snapshot.finished, limit)

    async def _unfinished_indexes(self, snapshot: Snapshot) -> IndexSet:
        """Returns the indexes of the items without a result, for a job that has ended.

        Reads them only once, because they do not change any more.
        """
        if self._unfinished is None:
            self._unfinished = await self._store.unfinished(self.job_id, snapshot)
        return self._unfinished
