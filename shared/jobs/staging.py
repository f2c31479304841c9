"""Uploads the items of a job in parts. Nothing of it runs before the last part is accepted."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import orjson
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from shared.jobs.submission import IdempotencyConflict, QueueFull, UploadExpired
from shared.queue.keys import Keys
from shared.redis.client import RedisUnavailable

META_ITEMS = 500  # items whose meta is one field; accept.lua knows this number, too
CHUNK_BYTES = 4 * 1024 * 1024
STAGING_TTL_S = 600  # how long the staged items wait for the next ones

Meta = tuple[str | None, str, str]  # request id, provider, model


class Staging:
    """The items of a job that is not accepted yet."""

    def __init__(self, redis: Redis, keys: Keys, accept: AsyncScript, job_id: str) -> None:
        self._redis = redis
        self._keys = keys
        self._accept = accept
        self.job_id = job_id
        self._sent = 0
        self._committed = False
        self.lanes = Counter[str]()
        self._items: list[str | bytes] = []  # lane, payload, lane, payload, …
        self._bytes = 0
        self._metas: list[Meta] = []

    async def add(self, lane: str, payload: bytes, meta: Meta) -> None:
        self._items += (lane, payload)
        self._bytes += len(payload)
        self._metas.append(meta)
        self.lanes[lane] += 1
        if len(self._metas) == META_ITEMS or self._bytes >= CHUNK_BYTES:
            await self._send(None)

    async def commit(self, submission: Mapping[str, object]) -> str:
        """Makes the items a job. `submission` has the fields that accept.lua names.

        Returns the job's id; that of an earlier job if this submission repeats it, or retries the
        same job. Raises SubmissionRejected.
        """
        self._committed = True  # also if no reply comes: it may have been accepted
        status, value = await self._send(submission)
        match status:
            case "queue_full":
                raise QueueFull(value)
            case "conflict":
                raise IdempotencyConflict
            case "expired":
                raise UploadExpired
        return value

    async def discard(self) -> None:
        """Deletes what was sent, if Redis is available; otherwise it expires."""
        if self._committed or not self._sent:
            return
        queues = [self._keys.queue(lane, self.job_id) for lane in self.lanes]
        keys = (self._keys.job(self.job_id), self._keys.payloads(self.job_id), *queues)
        with suppress(RedisUnavailable):
            await self._redis.unlink(*keys)

    async def _send(self, submission: Mapping[str, object] | None) -> tuple[str, str]:
        is_block = len(self._metas) == META_ITEMS or bool(submission and self._metas)
        upload = {
            "job": self.job_id,
            "first": self._sent,
            "staging_ttl_s": STAGING_TTL_S,
            "lanes": self.lanes,
        }
        if submission:
            upload["submission"] = submission
        status, value = await self._accept(
            args=[
                orjson.dumps(upload),
                orjson.dumps(self._metas) if is_block else b"",
                *self._items,
            ]
        )
        self._sent += len(self._items) // 2
        self._items, self._bytes = [], 0
        if is_block:
            self._metas = []
        return status.decode(), value.decode()


@asynccontextmanager
async def staged(staging: Staging) -> AsyncIterator[Staging]:
    """Discards the items if they were not committed."""
    try:
        yield staging
    except BaseException:
        await staging.discard()
        raise
