"""How the project reaches Redis: one bounded client for a URL, with or without Sentinel.

RedisUnavailable is the only exception that its commands raise when Redis does not do what it was
asked to; nothing else in the project has to know redis-py's exceptions.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
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
from redis.exceptions import NoScriptError, RedisError

from shared.redis.embedded import EmbeddedServer
from shared.redis.embedded import use as use_embedded
from shared.redis.sentinel import SCHEME, SentinelUrl, parse_sentinel_url

MAX_CONNECTIONS = 32
COMMAND_TIMEOUT_S = 5.0  # covers all retries of a command
SENTINEL_TIMEOUT_S = 1.0  # for the answer of one sentinel


class RedisUnavailable(RedisConnectionError):
    """Redis did not answer in time, or refused the command: unreachable, loading, full, read-only.

    The command may have been executed if only its reply was lost. A subclass of redis-py's
    ConnectionError, because its Sentinel client tries the next sentinel on that one only.
    """


ConnectionCheck = Callable[[AbstractConnection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RedisConnection:
    """A client, and the embedded server behind it if no URL was given."""

    client: ArqRedis
    embedded: EmbeddedServer | None

    async def close(self) -> None:
        await self.client.aclose()
        if self.embedded:
            self.embedded.release()


def open_redis(
    url: str | None, data_dir: Path, check: ConnectionCheck | None = None
) -> RedisConnection:
    """Connects to `url`, or starts the embedded Valkey with its data in `data_dir`.

    `check` is called with each new connection: see `connect`. Blocks while Valkey starts. Raises
    EmbeddedServerError, OSError.
    """
    if url:
        return RedisConnection(connect(url, check), None)
    server = use_embedded(data_dir)
    return RedisConnection(connect(server.url, check), server)


def connect(url: str, check: ConnectionCheck | None = None) -> ArqRedis:
    """Returns a client with a lazy pool: it connects at the first command.

    `url` is redis://, rediss://, unix:// or redis+sentinel:// (see shared.redis.sentinel). A
    command may be sent twice when its reply is lost, so each must be safe to repeat. Commands raise
    RedisUnavailable. `check` is awaited with each new connection, whose `on_connect` it must call;
    if it raises a RedisUnavailable, the command that needed the connection does.
    """
    options: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "timeout": COMMAND_TIMEOUT_S,
        "socket_connect_timeout": 2,
        "health_check_interval": 30,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
        "retry_on_error": [RedisConnectionError],
    }
    if check:
        options["redis_connect_func"] = check
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    pool: BlockingConnectionPool = (
        _master_pool(parse_sentinel_url(url), options)
        if url.startswith(SCHEME)
        else _Pool.from_url(url, **options)
    )
    client = _BoundedRedis(pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads)
    client.auto_close_connection_pool = True  # nobody else uses the pool
    return client


def _master_pool(url: SentinelUrl, options: dict[str, Any]) -> "_MasterPool":
    sentinel = Sentinel([])  # type: ignore[no-untyped-call]
    sentinel.sentinels = [
        _SentinelClient(_Pool(host=host, port=port, max_connections=1, timeout=1))
        for host, port in url.sentinels
    ]
    return _MasterPool(url.master, sentinel, **{**options, **url.options})  # type: ignore[no-untyped-call]


class _Pool(BlockingConnectionPool):
    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connects without redis-py's check for stale data, which costs a fifth of a round trip.

        The check is not needed: a connection whose command was cut off is closed, and one that the
        server has closed is opened again.
        """
        await connection.connect()  # type: ignore[no-untyped-call]


class _MasterPool(SentinelConnectionPool, _Pool):
    """Asks the sentinels for the master's address at each new connection."""


class _BoundedRedis(ArqRedis):
    """Limits the time of each command itself instead of with `socket_timeout`.

    With that, redis-py sends through `asyncio.wait_for`, which before Python 3.12 can lose a
    cancellation (python/cpython#86296): a worker that is told to stop would never stop.
    """

    timeout_s = COMMAND_TIMEOUT_S

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        async with _bounded(self.timeout_s):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001, FBT002
        return _BoundedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )


class _SentinelClient(_BoundedRedis):
    """Gives up early, because the next sentinel may know the master."""

    timeout_s = SENTINEL_TIMEOUT_S


class _BoundedPipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002
        async with _bounded(COMMAND_TIMEOUT_S):
            return await super().execute(raise_on_error)


@asynccontextmanager
async def _bounded(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise RedisUnavailable(f"no answer in {seconds:g} s") from None
    except (NoScriptError, RedisUnavailable):  # redis-py loads a missing script and repeats it
        raise
    except (RedisConnectionError, OSError) as error:
        raise RedisUnavailable(str(error) or type(error).__name__) from error
    except RedisError as error:  # without its text, which may repeat arguments: prompts
        raise RedisUnavailable(type(error).__name__) from error
