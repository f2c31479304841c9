"""Uploads the items of a job in parts. No item runs before the last part is accepted."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType

import orjson
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from shared.jobs.limited_models import LimitedModels, ModelsByProvider
from shared.jobs.submission import (
    IdempotencyConflict,
    QueueBytesFull,
    QueueFull,
    TooManyFallbacks,
    UploadExpired,
)
from shared.queue.fallback_chain import route_name
from shared.queue.redis_keys import META_ITEMS, SHARED_ROUTE, Keys
from shared.redis.client import RedisUnavailable
from shared.redis.memory import RedisMemory

CHUNK_BYTES = 4 * 1024 * 1024  # size of the payloads at which a part is sent
MAX_ROUTES = 100  # limit of a job's routes with a queue of their own: scripts visit each queue
# Number of these queues that are kept for models with a limit of their own. If fewer models have
# such a limit, fewer queues are kept.
MAX_RESERVED_ROUTES = 50
MAX_SHARED_ROUTES = 20  # further queues of a lane, each for other models with the same fallbacks
STAGING_TTL_S = 600  # time after which staged items expire if no further part follows

# Request id, lane (of the provider or the alias), model and, if there is metadata, the text of its
# JSON.
Meta = tuple[str | None, str, str] | tuple[str | None, str, str, str]


@dataclass(slots=True)
class _Route:
    """Counts the items of a route: of a lane and a model, or of a lane and models with one queue.

    place: names the lane, and the number of the route in the lane unless the number is 1.
    """

    name: str
    place: str
    items: int = 0


@dataclass(frozen=True, slots=True)
class StagingScripts:
    """Holds the script that stores items, and the script that stops counting staged bytes."""

    accept: AsyncScript
    unstage: AsyncScript


class Staging:
    """Collects and sends the items of a job that is not accepted yet."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        scripts: StagingScripts,
        job_id: str,
        owner: str = "",
        limits: Mapping[str, object] | None = None,
        memory: RedisMemory | None = None,
        model_limits: ModelsByProvider = MappingProxyType({}),
    ) -> None:
        """Creates an upload of the job `job_id`.

        limits: limits that accept.lua checks before the last part; None if it checks them only with
        the last part.
        memory: refuses items early if Redis has no room. If None, only Redis itself refuses them.
        model_limits: the limits of models in the providers file, by provider.
        """
        self._model_limits = model_limits
        self._limited: LimitedModels | None = None  # read for a job of many models
        self._memory = memory
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._owner = owner
        self._limits = limits
        self.job_id = job_id
        self._sent = 0
        self._sent_bytes = 0  # size of the payloads that were sent
        self._may_be_stored = False
        self._committed = False
        self.lanes = Counter[str]()
        self._routes = defaultdict[str, dict[str, _Route]](dict)  # lane → name → route
        self._items: list[str | bytes] = []  # place of the route, payload, place, payload, …
        self._bytes = 0  # size of the payloads in `_items`
        self._all_bytes = 0  # size of all payloads
        self._metas: list[Meta] = []
        self._own_queues = 0

    async def add(self, lane: str, payload: bytes, meta: Meta, chain: str = "") -> None:
        """Adds an item, and sends the collected items if they make a part.

        chain: says where the item may move: see `ItemRequest.chain`.

        Raises RedisFull, and SubmissionRejected if the items so far exceed the limits.
        """
        route = await self._route(lane, meta[2], chain)
        route.items += 1
        self._items += (route.place, payload)
        self._bytes += len(payload)
        self._all_bytes += len(payload)
        self._metas.append(meta)
        self.lanes[lane] += 1
        if len(self._metas) == META_ITEMS or self._bytes >= CHUNK_BYTES:
            self._check_memory()
            await self._send(None)

    async def _route(self, lane: str, model: str, chain: str) -> "_Route":
        routes, name, is_shared = self._routes[lane], route_name(model, chain), False
        if name not in routes and self._own_queues >= MAX_ROUTES - MAX_RESERVED_ROUTES:
            name, is_shared = await self._scarce_name(lane, model, chain)
        if name not in routes:
            self._own_queues += not is_shared
            if len(routes) >= MAX_ROUTES + MAX_SHARED_ROUTES:
                raise TooManyFallbacks(lane, MAX_ROUTES, MAX_SHARED_ROUTES)
            number = len(routes) + 1
            routes[name] = _Route(name, lane if number == 1 else f"{lane} {number}")
        return routes[name]

    async def _scarce_name(self, lane: str, model: str, chain: str) -> tuple[str, bool]:
        """Returns the name of the route of a model that has no route yet, in a job of many models.

        Also returns whether the route is for all further models with the same fallbacks.
        """
        limited = await self._limited_models()
        if self._own_queues < MAX_ROUTES - min(len(limited), MAX_RESERVED_ROUTES):
            return route_name(model, chain), False
        if limiter := limited.limiter(lane, model):
            name = route_name(limiter, chain)
            if self._own_queues < MAX_ROUTES or name in self._routes[lane]:
                return name, False
        return SHARED_ROUTE + chain, True

    async def _limited_models(self) -> LimitedModels:
        if self._limited is None:
            names = await self._redis.hkeys(self._keys.limits)  # type: ignore[misc]
            self._limited = LimitedModels(self._model_limits, [name.decode() for name in names])
        return self._limited

    async def commit(self, submission: Mapping[str, object]) -> str:
        """Sends the last items and creates the job. Returns the job's id.

        `submission` has the fields that accept.lua names. If an earlier job has the same
        idempotency key, retries the same job, or was created by the request that this submission
        repeats, creates no job and returns the earlier job's id. Raises SubmissionRejected,
        RedisFull.
        """
        self._check_memory()
        self._committed = True  # even if no reply comes, because the job may have been accepted
        return await self._send(submission)

    def _check_memory(self) -> None:
        if self._memory:
            self._memory.check(self._bytes)

    async def discard(self) -> None:
        """Deletes the staged items, unless `commit` has sent the last items.

        If Redis is unavailable, the staged items expire.
        """
        if self._committed or not self._may_be_stored:
            return
        queues = [
            self._keys.queue(lane, self.job_id, route)
            for lane, routes in self._routes.items()
            for route in routes
        ]
        keys = (self._keys.job(self.job_id), self._keys.payloads(self.job_id), *queues)
        with suppress(RedisUnavailable):
            await self._redis.unlink(*keys)
            # If no reply came, the last call may have been executed.
            counted = (self._sent_bytes, self._all_bytes)
            await self._scripts.unstage(args=[self._owner, self.job_id, *counted])

    async def _send(self, submission: Mapping[str, object] | None) -> str:
        is_block = len(self._metas) == META_ITEMS or bool(submission and self._metas)
        upload = {
            "job": self.job_id,
            "first": self._sent,
            "staging_ttl_s": STAGING_TTL_S,
            "owner": self._owner,
            "bytes": self._all_bytes,
            "staged_bytes": self._sent_bytes,
            "routes": {
                lane: [(route.name, route.items) for route in routes.values()]
                for lane, routes in self._routes.items()
            },
        }
        if submission:
            upload["submission"] = submission
        elif self._limits:
            upload["limits"] = self._limits
        self._may_be_stored = True
        status, value = await self._scripts.accept(
            args=[
                orjson.dumps(upload),
                orjson.dumps(self._metas) if is_block else b"",
                *self._items,
            ]
        )
        self._sent += len(self._items) // 2
        self._sent_bytes = self._all_bytes
        self._items, self._bytes = [], 0
        if is_block:
            self._metas = []
        match status.decode():
            case "queue_full":
                raise QueueFull(value.decode())
            case "bytes_full":
                raise QueueBytesFull
            case "conflict":
                raise IdempotencyConflict
            case "expired":
                raise UploadExpired
        return str(value.decode())


@asynccontextmanager
async def staged(staging: Staging) -> AsyncIterator[Staging]:
    """Yields `staging`. If the block raises an exception before the commit, the staged items are
    discarded."""
    try:
        yield staging
    except BaseException:
        await staging.discard()
        raise
