"""Jobs as Redis has them: put in whole, read in part."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from shared.queue.keys import Keys
from shared.queue.scripts import script

META_ITEMS = 500  # in one field
CHUNK_BYTES = 4 * 1024 * 1024
STAGED_S = 600  # for the next items of an upload

Meta = tuple[str | None, str, str]  # request id, provider, model


class SubmissionRejected(Exception):
    """Nothing of the job was accepted."""


class QueueFull(SubmissionRejected):
    """More of this owner's items wait in this lane than `max_depth`."""

    def __init__(self, lane: str) -> None:
        super().__init__(lane)
        self.lane = lane


class IdempotencyConflict(SubmissionRejected):
    """The idempotency key has made a job of other items."""


class UploadTooSlow(SubmissionRejected):
    """Its first items have expired meanwhile."""


@dataclass(frozen=True, slots=True)
class Key:
    """Idempotency: the same name with the same items and options is the same job."""

    name: str
    ttl_s: int
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a job is besides its items."""

    ttl_s: int  # of the results
    max_depth: int
    owner: str = ""
    interactive: bool = False
    deadline_s: float | None = None
    key: Key | None = None
    retry_of: str | None = None
    webhook: str | None = None  # its URL; in Redis the payload of its delivery
    followed_s: float | None = None  # progress is published for so long

    def to_json(self, lanes: Counter[str]) -> bytes:
        fields = {
            "ttl_s": self.ttl_s,
            "max_depth": self.max_depth,
            "owner": self.owner,
            "class": "interactive" if self.interactive else "bulk",
            "lanes": lanes,
            "deadline_s": self.deadline_s,
            "key": self.key,
            "retry_of": self.retry_of,
            "webhook": self.webhook,
            "followed_s": self.followed_s,
        }
        return orjson.dumps({name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job as it is stored, and of a small one all its results."""

    total: int
    owner: str
    ended: int  # items that have a result
    failed: int  # of these
    queued: int
    accepted_ms: float
    started_ms: float | None
    finished_ms: float | None
    ended_as: str | None  # what became of the items without a result
    deadline_ms: float | None
    latency_ms: float  # of all results
    retry_of: str | None
    retried_as: str | None
    webhook: str | None  # payload of its delivery
    lanes: dict[str, int]  # items
    delivery: tuple[bytes | None, bytes | None] | None  # result and tries, once that is due
    metas: list[Meta] | None
    results: dict[int, bytes] | None  # each with the time it ended before it


class Store:
    """Raises `redis.exceptions.RedisError` where Redis is away."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._accept, self._cancel, self._snapshot, self._follow = (
            script(redis, keys, name) for name in ("accept", "cancel", "snapshot", "follow")
        )

    @asynccontextmanager
    async def staging(self, job_id: str) -> AsyncIterator["Staging"]:
        """What is not committed goes away."""
        staging = Staging(self._redis, self._keys, self._accept, job_id)
        try:
            yield staging
        except BaseException:
            await staging.discard()
            raise

    async def cancel(self, job_id: str, owner: str = "") -> bool:
        """False if the owner has no such job."""
        return bool(await self._cancel(args=[job_id, owner]))

    async def snapshot(self, job_id: str, *, results_of_up_to: int = 100) -> Snapshot | None:
        return _snapshot(await self._snapshot(args=[job_id, results_of_up_to]))

    async def list_jobs(
        self, owner: str, before_us: int | None, most: int
    ) -> list[tuple[str, int, Snapshot | None]]:
        """Newest first, with the µs of their acceptance; None: expired just now."""
        newest = "+inf" if before_us is None else f"({before_us / 1000:.3f}"
        jobs = await self._redis.zrevrangebyscore(
            self._keys.owned(owner), newest, "-inf", start=0, num=most, withscores=True
        )
        if not jobs:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for job_id, _ in jobs:
            await self._snapshot(args=[job_id, 0], client=pipe)
        replies = await pipe.execute()
        return [
            (job_id.decode(), round(accepted_ms * 1000), _snapshot(reply))
            for (job_id, accepted_ms), reply in zip(jobs, replies, strict=True)
        ]

    async def follow(self, job_ids: Sequence[str], for_s: float) -> list[str]:
        """Progress of these is published; returns those that are done, or gone."""
        if not job_ids:
            return []
        return [job_id.decode() for job_id in await self._follow(args=[for_s, *job_ids])]

    async def finished(self, job_ids: Sequence[str]) -> list[str]:
        """Those that are done; one that is gone, or was not submitted yet, is not."""
        if not job_ids:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hexists(self._keys.job(job_id), "finished_ms")
        done = await pipe.execute()
        return [job_id for job_id, is_done in zip(job_ids, done, strict=True) if is_done]

    async def ended(self, job_id: str, first: int, most: int) -> list[int]:
        """The items that ended as number `first` and next."""
        indexes = await self._redis.lrange(self._keys.ended(job_id), first, first + most - 1)  # type: ignore[misc]
        return [int(index) for index in indexes]

    async def unfinished(self, job_id: str, snapshot: Snapshot) -> list[int]:
        """The items of a job that was ended as a whole before they had."""
        ended = bytearray(snapshot.total)
        for index in await self.ended(job_id, 0, snapshot.ended):
            ended[index] = 1
        return [index for index, has_ended in enumerate(ended) if not has_ended]

    async def failed(self, job_id: str) -> set[int]:
        """The items that have an error as result."""
        indexes: set[bytes] = await self._redis.smembers(self._keys.failed(job_id))  # type: ignore[misc]
        return {int(index) for index in indexes}

    async def read_payloads(
        self, job_id: str, indexes: Sequence[int]
    ) -> list[tuple[Meta | None, bytes | None]]:
        """Of these items, request and payload; None if they have gone."""
        return await self._with_meta(job_id, self._keys.payloads(job_id), indexes)

    async def read_results(
        self, job_id: str, indexes: Sequence[int]
    ) -> list[tuple[Meta | None, bytes | None]]:
        """Of these items, request and result; None if the job has gone, or the item not ended."""
        return await self._with_meta(job_id, self._keys.results(job_id), indexes)

    async def _with_meta(
        self, job_id: str, key: str, indexes: Sequence[int]
    ) -> list[tuple[Meta | None, bytes | None]]:
        blocks = sorted({index // META_ITEMS for index in indexes})
        pipe = self._redis.pipeline()  # they expire together
        pipe.hmget(self._keys.job(job_id), [f"meta:{block}" for block in blocks])
        pipe.hmget(key, [str(index) for index in indexes])
        metas, values = await pipe.execute()
        by_block = {
            block: orjson.loads(meta) for block, meta in zip(blocks, metas, strict=True) if meta
        }
        return [
            (by_block[block][index % META_ITEMS], value)
            if (block := index // META_ITEMS) in by_block
            else (None, None)
            for index, value in zip(indexes, values, strict=True)
        ]


class Staging:
    """The items of a job to be."""

    def __init__(self, redis: Redis, keys: Keys, accept: AsyncScript, job_id: str) -> None:
        self._redis = redis
        self._keys = keys
        self._accept = accept
        self.job_id = job_id
        self._sent = 0
        self._committed = False
        self.lanes = Counter[str]()
        self._items: list[str | bytes] = []  # lane, payload, lane, …
        self._bytes = 0
        self._metas: list[Meta] = []

    async def add(self, lane: str, payload: bytes, meta: Meta) -> None:
        self._items += (lane, payload)
        self._bytes += len(payload)
        self._metas.append(meta)
        self.lanes[lane] += 1
        if len(self._metas) == META_ITEMS or self._bytes >= CHUNK_BYTES:
            await self._send(orjson.dumps({"lanes": self.lanes}), last=False)

    async def commit(self, submission: Submission) -> str:
        """The id of the job: another's if this one is a repetition. Raises SubmissionRejected."""
        self._committed = True  # perhaps, even if no reply comes
        status, value = await self._send(submission.to_json(self.lanes), last=True)
        match status:
            case "full":
                raise QueueFull(value)
            case "another":
                raise IdempotencyConflict
            case "incomplete":
                raise UploadTooSlow
        return value

    async def discard(self) -> None:
        """Best effort: it expires anyway."""
        if self._committed or not self._sent:
            return
        queues = [self._keys.queue(lane, self.job_id) for lane in self.lanes]
        keys = (self._keys.job(self.job_id), self._keys.payloads(self.job_id), *queues)
        with suppress(RedisError, OSError):
            await self._redis.unlink(*keys)

    async def _send(self, job: bytes, *, last: bool) -> tuple[str, str]:
        full = len(self._metas) == META_ITEMS or (last and self._metas)
        status, value = await self._accept(
            args=[
                self.job_id,
                self._sent,
                orjson.dumps(self._metas) if full else b"",
                job,
                STAGED_S,
                *self._items,
            ]
        )
        self._sent += len(self._items) // 2
        self._items, self._bytes = [], 0
        if full:
            self._metas = []
        return status.decode(), value.decode()


def _snapshot(reply: Any) -> Snapshot | None:  # noqa: ANN401 — as snapshot.lua has it
    if reply is None:
        return None
    fields, ended, failed, queued, delivery, *contents = reply
    total, owner, _, _, accepted, started, finished, ended_as, deadline, latency_us, *others = (
        fields
    )
    retry_of, retried_as, webhook, counts = others
    metas, results = contents or (None, None)
    return Snapshot(
        total=int(total),
        owner=owner.decode(),
        ended=ended,
        failed=failed,
        queued=queued,
        accepted_ms=float(accepted),
        started_ms=_number(started),
        finished_ms=_number(finished),
        ended_as=_text(ended_as),
        deadline_ms=_number(deadline),
        latency_ms=int(latency_us or 0) / 1000,
        retry_of=_text(retry_of),
        retried_as=_text(retried_as),
        webhook=_text(webhook),
        lanes=orjson.loads(counts) if counts else {},
        delivery=tuple(delivery) if delivery else None,
        metas=orjson.loads(metas) if metas else None,
        results=dict(zip(map(int, results[::2]), results[1::2], strict=True))
        if results is not None
        else None,
    )


def _number(value: bytes | None) -> float | None:
    return float(value) if value else None


def _text(value: bytes | None) -> str | None:
    return value.decode() if value else None
