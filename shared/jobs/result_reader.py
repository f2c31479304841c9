"""The items of a job, read in pages: in the order of the requests, or as they ended."""

from collections.abc import Sequence
from enum import StrEnum

from shared.jobs.service import READ_AT_ONCE, JobNotFound, response
from shared.jobs.store import Snapshot, Store
from shared.models import JobItem


class Order(StrEnum):
    INDEX = "index"
    COMPLETION = "completion"


class CursorOutOfRange(ValueError):
    """The job has no so many items."""


class JobReader:
    """Keeps its position, from 0. Raises RedisError, JobNotFound, CursorOutOfRange."""

    def __init__(
        self, store: Store, job_id: str, owner: str, *, order: Order, position: int
    ) -> None:
        self.job_id = job_id
        self._store = store
        self._owner = owner
        self._order = order
        self._position = position
        self._total: int | None = None
        self._cut_off: list[int] | None = None

    @property
    def at_end(self) -> bool:
        """Every item of the job was read."""
        return self._position == self._total

    async def next(self, most: int = READ_AT_ONCE) -> list[JobItem]:
        """None of them: not yet, or never if `at_end`."""
        snapshot = await self._store.snapshot(self.job_id, results_of_up_to=0)
        if snapshot is None or snapshot.owner != self._owner:
            raise JobNotFound(self.job_id)
        self._total = snapshot.total
        if self._position > snapshot.total:
            raise CursorOutOfRange
        indexes = await self._indexes(snapshot, most)
        items: list[JobItem] = []
        if not indexes:
            return items
        for index, (meta, stored) in zip(
            indexes, await self._store.read_results(self.job_id, indexes), strict=True
        ):
            if meta is None:
                raise JobNotFound(self.job_id)
            answer = response(meta, stored, snapshot.ended_as, snapshot.finished_ms)
            if answer is None:
                break
            self._position += 1
            items.append(JobItem(**dict(answer), index=index, cursor=self._position))
        return items

    async def _indexes(self, snapshot: Snapshot, most: int) -> Sequence[int]:
        first = self._position
        if self._order is Order.INDEX:
            return range(first, min(first + most, snapshot.total))
        if first < snapshot.ended:
            return await self._store.ended(self.job_id, first, most)
        if snapshot.finished_ms is None:
            return ()
        if self._cut_off is None:
            self._cut_off = await self._store.unfinished(self.job_id, snapshot)
        return self._cut_off[first - snapshot.ended :][:most]
