"""Reads and writes jobs in Redis, in parts that fit in memory."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType

import orjson
from redis.asyncio import Redis

from shared.jobs.index_set import IndexSet
from shared.jobs.limited_models import ModelsByProvider
from shared.jobs.snapshot import Snapshot, parse_snapshot
from shared.jobs.staging import Meta, Staging, StagingScripts, staged
from shared.jobs.submission import MAX_KEY_S
from shared.queue.redis_keys import META_ITEMS, Keys
from shared.queue.scripts import load_script
from shared.redis.memory import RedisMemory

# Limit of the results that are read with a job. No memory budget counts these results.
SNAPSHOT_BYTES = 64 * 1024
_INDEXES = 2000  # limit of indexes that one command reads, so that other commands do not wait


class Store:
    """Reads and writes the jobs of all owners. Raises RedisUnavailable."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        memory: RedisMemory | None = None,
        model_limits: ModelsByProvider = MappingProxyType({}),
    ) -> None:
        """Creates a store. `memory` and `model_limits`: see Staging."""
        self._model_limits = model_limits
        self._memory = memory
        self._redis = redis
        self._keys = keys
        self.scripts = StagingScripts(
            accept=load_script(redis, keys, "accept", {"MAX_KEY_S": MAX_KEY_S}),
            unstage=load_script(redis, keys, "unstage"),
        )
        self._cancel, self._abandon, self._snapshot, self._follow_progress, self._read_page = (
            load_script(redis, keys, name)
            for name in ("cancel", "abandon", "snapshot", "follow_progress", "read_page")
        )

    def staging(
        self, job_id: str, owner: str = "", limits: Mapping[str, object] | None = None
    ) -> AbstractAsyncContextManager[Staging]:
        """Returns a context manager that uploads a job of an owner. `limits`: see Staging.

        If the block raises an exception before the commit, the staged items are discarded. Raises
        RedisFull, and so do the methods of Staging.
        """
        if self._memory:
            self._memory.check()
        return staged(
            Staging(
                self._redis,
                self._keys,
                self.scripts,
                job_id,
                owner,
                limits,
                memory=self._memory,
                model_limits=self._model_limits,
            )
        )

    async def cancel(self, job_id: str, owner: str = "") -> bool:
        """Cancels the job if it has not ended. Returns False if the owner has no such job."""
        return bool(await self._cancel(args=[job_id, owner]))

    async def abandon(
        self, job_id: str, owner: str, body_digest: str, *, grace_s: float, cancels: bool
    ) -> None:
        """Records that a client of the job has disconnected.

        If another client waits for the job, nothing else happens. Otherwise, for `grace_s`, a
        submission of the same owner with the same `body_digest` gets this job. If there is no such
        submission and `cancels` is true, the job is cancelled after `grace_s`.
        """
        await self._abandon(args=[job_id, owner, body_digest, grace_s * 1000, int(cancels)])

    async def snapshot(
        self, job_id: str, owner: str = "", *, max_items: int = 100
    ) -> Snapshot | None:
        """Returns the job's snapshot, or None if the owner has no such job.

        If the job has at most `max_items` items, the snapshot includes their metas, and all results
        if these take at most `SNAPSHOT_BYTES`. `max_items` may be at most META_ITEMS.
        """
        args = [job_id, owner, max_items, SNAPSHOT_BYTES]
        return parse_snapshot(await self._snapshot(args=args))

    async def list_jobs(
        self, owner: str, before_us: int | None, limit: int
    ) -> list[tuple[str, int, Snapshot | None]]:
        """Returns up to `limit` jobs that were accepted before `before_us`, newest first.

        If `before_us` is None, begins with the newest job. Each element is the job's id, its
        acceptance time in µs and its snapshot. The snapshot is None if the job has just expired.
        """
        newest = "+inf" if before_us is None else f"({before_us / 1000:.3f}"
        jobs = await self._redis.zrevrangebyscore(
            self._keys.jobs_by_owner(owner), newest, "-inf", start=0, num=limit, withscores=True
        )
        if not jobs:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for job_id, _ in jobs:
            await self._snapshot(args=[job_id, owner, 0, 0], client=pipe)
        replies = await pipe.execute()
        return [
            (job_id.decode(), round(accepted_ms * 1000), parse_snapshot(reply))
            for (job_id, accepted_ms), reply in zip(jobs, replies, strict=True)
        ]

    async def follow_progress(self, job_ids: Sequence[str], for_s: float) -> list[str]:
        """Makes the scripts publish the progress of these jobs for `for_s` seconds.

        Returns the ids of the jobs that have ended or do not exist.
        """
        if not job_ids:
            return []
        finished = await self._follow_progress(args=[for_s, *job_ids])
        return [job_id.decode() for job_id in finished]

    async def finished(self, job_ids: Sequence[str]) -> list[str]:
        """Returns the ids whose job has ended; ids of expired and unknown jobs are omitted."""
        if not job_ids:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hexists(self._keys.job(job_id), "finished_ms")
        finished = await pipe.execute()
        return [job_id for job_id, is_so in zip(job_ids, finished, strict=True) if is_so]

    async def completion_order(self, job_id: str, first: int, limit: int) -> list[int]:
        """Returns the indexes of up to `limit` items, in the order in which the items finished.

        Omits the first `first` items of this order.
        """
        indexes = await self._redis.lrange(  # type: ignore[misc]
            self._keys.completion_order(job_id), first, first + limit - 1
        )
        return [int(index) for index in indexes]

    async def unfinished(self, job_id: str, snapshot: Snapshot) -> IndexSet:
        """Returns the indexes of the items without a result. The job must have ended."""
        indexes = IndexSet(snapshot.total)
        for first in range(0, snapshot.finished, _INDEXES):
            indexes.add(await self.completion_order(job_id, first, _INDEXES))
        indexes.invert()
        return indexes

    async def add_failed(self, job_id: str, indexes: IndexSet) -> None:
        """Adds the indexes of the items whose result is an error to `indexes`."""
        cursor, key = 0, self._keys.failed(job_id)
        while True:
            cursor, found = await self._redis.sscan(key, cursor, count=_INDEXES)
            indexes.add(map(int, found))
            if not cursor:
                return

    async def read_payloads(
        self, job_id: str, indexes: Sequence[int], *, max_bytes: int
    ) -> tuple[list[tuple[Meta | None, bytes | None]], int]:
        """Returns the metas and the payloads of the items. See `read_results`."""
        return await self._read("payloads", job_id, indexes, max_bytes)

    async def read_results(
        self, job_id: str, indexes: Sequence[int], *, max_bytes: int
    ) -> tuple[list[tuple[Meta | None, bytes | None]], int]:
        """Returns the metas and the stored results of the items with these indexes.

        Ends before the item whose result would exceed `max_bytes` of results in all. Also returns
        the size of this result, or 0 if all fit. A meta is None if the job no longer exists. A
        result is None if the item has no result.
        """
        return await self._read("results", job_id, indexes, max_bytes)

    async def _read(
        self, kind: str, job_id: str, indexes: Sequence[int], max_bytes: int
    ) -> tuple[list[tuple[Meta | None, bytes | None]], int]:
        blocks = _blocks(indexes)
        args = [kind, job_id, max_bytes, len(blocks), *blocks, *indexes]
        metas, values, next_bytes = await self._read_page(args=args)
        return _with_meta(blocks, metas, indexes[: len(values)], values), next_bytes


def _blocks(indexes: Sequence[int]) -> list[int]:
    return sorted({index // META_ITEMS for index in indexes})


def _with_meta(
    blocks: Sequence[int],
    metas: Sequence[bytes | None],
    indexes: Sequence[int],
    values: Sequence[bytes | None],
) -> list[tuple[Meta | None, bytes | None]]:
    by_block = {
        block: orjson.loads(meta) for block, meta in zip(blocks, metas, strict=True) if meta
    }
    return [
        (by_block[block][index % META_ITEMS], value)
        if (block := index // META_ITEMS) in by_block
        else (None, None)
        for index, value in zip(indexes, values, strict=True)
    ]
