"""Reads jobs as batches of OpenAI's API, and stores what only such batches have."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import orjson
from redis.asyncio import Redis

from shared.jobs.batch_details import BatchDetails
from shared.jobs.batch_record import FIELDS, BatchRecord, parse_batch
from shared.jobs.job_usage import JobUsage
from shared.jobs.snapshot import parse_snapshot
from shared.jobs.store import Store
from shared.jobs.submission import Submission
from shared.models import JobStatus
from shared.queue.ids import is_job_id
from shared.queue.item_results import parse_stored
from shared.queue.leases_of_jobs import jobs_with_leases
from shared.queue.redis_keys import Keys
from shared.queue.scripts import load_script
from shared.redis.clock import read_time_s
from shared.redis.time_index import Place, TimeIndex

MAX_REJECTED = 1000  # limit of the rejected batches of an owner; the oldest are removed
_PAGE_RESULTS = 500  # limit of the results of a page
_READ_BATCHES = 500  # limit of batches that are read in one round trip
_PAGE_BYTES = 1024 * 1024  # limit of the bytes of a page of results, because answers may be large
_STOPPING_MS = 60_000  # time after a job was cancelled in which its calls may still run


class BatchNotFound(Exception):
    """The owner has no batch with this id, or the batch has expired."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(batch_id)
        self.batch_id = batch_id


class BatchStore:
    """Reads and writes the batches of all owners. Raises RedisUnavailable, BatchNotFound."""

    def __init__(self, redis: Redis, keys: Keys, store: Store, *, result_ttl_s: int) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._result_ttl_s = result_ttl_s
        self._page = asyncio.Lock()  # one page of results is in memory at a time
        self._snapshot, self._reject, self._set_field = (
            load_script(redis, keys, name) for name in ("snapshot", "reject_batch", "set_job_field")
        )

    async def get(self, job_id: str, owner: str) -> BatchRecord:
        [found] = await self._read([job_id if is_job_id(job_id) else ""], owner)
        if found is None:
            raise BatchNotFound(job_id)
        return found

    async def list_batches(
        self, owner: str, *, after: str | None, limit: int
    ) -> tuple[list[BatchRecord], bool]:
        """Returns up to `limit` batches after the batch `after`, newest first.

        If `after` is None, begins with the newest batch. Also returns whether more batches follow.
        Jobs for which a client waits are left out.
        """
        index, place = self.index(owner, newest_first=True), None
        if after is not None:
            place = await index.place(after)
            if place is None:
                raise BatchNotFound(after)
        found: list[BatchRecord] = []
        async for batch in self.read_list(index, owner, place, limit + 1):
            found.append(batch)
            if len(found) > limit:
                break
        return found[:limit], len(found) > limit

    def index(self, owner: str, *, newest_first: bool) -> TimeIndex:
        return TimeIndex(self._redis, self._keys.batches_by_owner(owner), newest_first=newest_first)

    async def read_list(
        self, index: TimeIndex, owner: str, after: Place | None, expected: int
    ) -> AsyncIterator[BatchRecord]:
        """Yields the batches after a place in the index; all batches if `after` is None.

        expected: number of batches that the caller will use. One round trip reads no more batches.
        """
        size = min(expected, _READ_BATCHES)
        while places := await index.read(after, size):
            for batch in await self._read([place.member for place in places], owner):
                if batch:
                    yield batch
            after = places[-1]

    async def reject(
        self,
        job_id: str,
        details: BatchDetails,
        submission: Submission,
        errors: Sequence[dict[str, Any]],
    ) -> str:
        """Stores a batch that failed because of the mistakes in its file.

        Returns the batch's id, or the id of the batch that an equal request has created: see
        lua/lib/file_use.lua. Removes the owner's oldest rejected batch if there are more
        than MAX_REJECTED.
        """
        batch = (job_id, submission.owner, details.to_json(), orjson.dumps(errors))
        use = (
            details.input_file_id,
            submission.file_use or "",
            "1" if submission.is_repetition else "",
            submission.file_seen or "",
        )
        created = await self._reject(args=[*batch, self._result_ttl_s, MAX_REJECTED, *use])
        return str(created.decode())

    async def sum_usage(self, batch: BatchRecord) -> JobUsage:
        """Sums the usage of all answers of an ended job. Stores and returns the sum."""
        total, position, max_bytes = JobUsage(), 0, _PAGE_BYTES
        finished = batch.snapshot.finished if batch.snapshot else 0
        while position < finished:
            indexes = await self._store.completion_order(batch.job_id, position, _PAGE_RESULTS)
            async with self._page:
                page, next_bytes = await self._store.read_results(
                    batch.job_id, indexes, max_bytes=max_bytes
                )
                for _, stored in page:
                    if stored is not None:
                        total.add(parse_stored(stored)[1])
            if not page and not next_bytes:  # the job has expired
                raise BatchNotFound(batch.job_id)
            position += len(page)
            max_bytes = _PAGE_BYTES if page else next_bytes
        await self._set_field(args=[batch.job_id, "usage", orjson.dumps(asdict(total))])
        return total

    async def store_file_bytes(self, batch: BatchRecord, kind: str, size: int) -> None:
        """Stores the size of a file of results. `kind` is "output" or "errors"."""
        await self._set_field(args=[batch.job_id, f"{kind}_bytes", size])

    async def delete_file(self, batch: BatchRecord, kind: str) -> None:
        """Stores that the owner has deleted a file of results. The job keeps the results."""
        kinds = " ".join(sorted({*batch.deleted_files, kind}))
        await self._set_field(args=[batch.job_id, "deleted_files", kinds])

    async def _read(self, job_ids: Sequence[str], owner: str) -> list[BatchRecord | None]:
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hmget(self._keys.job(job_id), FIELDS)
            await self._snapshot(args=[job_id, owner, 0, 0], client=pipe)
        replies = await pipe.execute()
        found = [
            parse_batch(job_id, owner, fields, parse_snapshot(reply))
            for job_id, fields, reply in zip(job_ids, replies[::2], replies[1::2], strict=True)
        ]
        stopping = await self._with_calls(batch for batch in found if batch)
        return [
            replace(batch, has_calls=True) if batch and batch.job_id in stopping else batch
            for batch in found
        ]

    async def _with_calls(self, batches: Iterable[BatchRecord]) -> set[str]:
        """Returns the ids of the cancelled batches of which calls still run."""
        cancelled = {
            batch.job_id: batch.snapshot
            for batch in batches
            if batch.snapshot and batch.snapshot.finished_early_as == JobStatus.CANCELLED
        }
        if not cancelled:
            return set()
        now_ms = 1000 * await read_time_s(self._redis)
        lanes = defaultdict[str, set[str]](set)  # lane → ids of the jobs that are looked for
        for job_id, snapshot in cancelled.items():
            if now_ms - (snapshot.finished_ms or 0) <= _STOPPING_MS:
                for lane in snapshot.items_by_lane:
                    lanes[lane].add(job_id)
        return await jobs_with_leases(self._redis, self._keys, lanes, now_ms)
