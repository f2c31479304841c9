"""The connection to Redis: one bounded pool a process that outlives restarts of the server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis.sentinel import SCHEME, SentinelUrl, parse_sentinel_url

MAX_CONNECTIONS = 32
COMMAND_S = 5.0  # with all of its retries
SENTINEL_S = 1.0  # for the answer of one sentinel


def connect(url: str) -> ArqRedis:
    """A lazy pool: it connects at the first command. Every command may be sent twice (a reply can
    be lost), so each must be safe to repeat. Raises RedisError, and TimeoutError of redis-py."""
    options: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "timeout": COMMAND_S,
        "socket_connect_timeout": 2,
        "health_check_interval": 30,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
        "retry_on_error": [RedisConnectionError],
    }
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    pool: BlockingConnectionPool = (
        _master_pool(parse_sentinel_url(url), options)
        if url.startswith(SCHEME)
        else _Pool.from_url(url, **options)
    )
    return _BoundedRedis(pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads)


def _master_pool(url: SentinelUrl, options: dict[str, Any]) -> "_MasterPool":
    asked = Sentinel([])  # type: ignore[no-untyped-call]
    asked.sentinels = [
        _SentinelClient(_Pool(host=host, port=port, max_connections=1, timeout=1))
        for host, port in url.sentinels
    ]
    return _MasterPool(url.master, asked, **{**options, **url.options})  # type: ignore[no-untyped-call]


class _Pool(BlockingConnectionPool):
    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Without redis-py's look for stale data, a fifth of a round trip: a connection whose
        command was cut off is closed, and one that the server has closed is made again."""
        await connection.connect()  # type: ignore[no-untyped-call]


class _MasterPool(SentinelConnectionPool, _Pool):
    """Each new connection asks the sentinels where the master is."""


class _BoundedRedis(ArqRedis):
    """Bounds commands itself, for `socket_timeout` makes redis-py send through `asyncio.wait_for`,
    which before Python 3.12 can lose a cancellation (python/cpython#86296): a worker that is told
    to stop would go on for ever."""

    command_s = COMMAND_S

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        async with _bounded(self.command_s):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001, FBT002
        return _BoundedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )


class _SentinelClient(_BoundedRedis):
    """Gives up early: the next sentinel may know."""

    command_s = SENTINEL_S


class _BoundedPipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002
        async with _bounded(COMMAND_S):
            return await super().execute(raise_on_error)


@asynccontextmanager
async def _bounded(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise RedisTimeoutError(f"no answer in {seconds:g} s") from None
