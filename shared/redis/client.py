"""Opens the Redis client, for a plain URL or through Sentinel, with limits on connections and time.

If Redis does not execute a command, the command raises RedisUnavailable and no other exception, so
other modules need not know redis-py's exceptions.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson
from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ExponentialBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError

from shared.redis.embedded import EmbeddedServer
from shared.redis.embedded import use as use_embedded
from shared.redis.outage_log import OutageLog, redis_address
from shared.redis.sentinel import SCHEME, SentinelUrl, parse_sentinel_url

MAX_CONNECTIONS = 32
COMMAND_TIMEOUT_S = 5.0  # time limit of a command, including its retries
SENTINEL_TIMEOUT_S = 1.0  # time limit of a command to one sentinel
RETRY_INTERVAL_S = 0.25  # time between two attempts, if a client or a worker's free slot waits


class RedisUnavailable(RedisConnectionError):
    """Redis did not answer in time, or refused the command.

    Redis may be down, loading its data, full or read-only. If only the reply was lost, Redis has
    executed the command. This is a subclass of redis-py's ConnectionError, because redis-py's
    Sentinel client tries the next sentinel only after a ConnectionError.
    """


class RedisFull(RedisUnavailable):
    """Redis uses all of the memory that it may use, or almost all. `str(error)` says how much."""


ConnectionCheck = Callable[[AbstractConnection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RedisConnection:
    """Holds a client and its embedded server; `embedded` is None if a URL was given."""

    client: ArqRedis
    embedded: EmbeddedServer | None

    async def close(self) -> None:
        await self.client.aclose()
        if self.embedded:
            self.embedded.release()


def open_redis(
    url: str | None,
    data_dir: Path,
    check: ConnectionCheck | None = None,
    *,
    log_outages: bool = True,
) -> RedisConnection:
    """Returns a client for `url`; without a URL, for the embedded Valkey with data in `data_dir`.

    Starts the embedded Valkey if necessary, and blocks until Valkey has started. `check` and
    `log_outages`: see `connect`. Raises EmbeddedServerError.
    """
    server = None
    if not url:
        server = use_embedded(data_dir)
        url = server.url
    return RedisConnection(connect(url, check, log_outages=log_outages), server)


def connect(
    url: str, check: ConnectionCheck | None = None, *, log_outages: bool = True
) -> ArqRedis:
    """Returns a client, which connects at its first command.

    `url` begins with redis://, rediss://, unix:// or redis+sentinel:// (see shared.redis.sentinel).
    Commands raise RedisUnavailable. Each command must be safe to repeat, because it is sent again
    if its reply is lost. `check` is awaited with each new connection, and must call the
    connection's `on_connect`. If `check` raises RedisUnavailable, the command that needed the
    connection raises this exception. With `log_outages`, the client logs when Redis becomes
    unavailable and when Redis is available again, so callers need not log this.
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
    client.auto_close_connection_pool = True  # no other client uses the pool
    if log_outages:
        client.outage_log = OutageLog(redis_address(url))
    return client


def outage_log(redis: Redis) -> OutageLog | None:
    """Returns the log of a client of `connect`, or None if the client logs no outages."""
    return cast("_BoundedRedis", redis).outage_log


def _master_pool(url: SentinelUrl, options: dict[str, Any]) -> "_MasterPool":
    sentinel = Sentinel([])  # type: ignore[no-untyped-call]
    sentinel.sentinels = [
        _SentinelClient(_Pool(host=host, port=port, max_connections=1, timeout=1))
        for host, port in url.sentinels
    ]
    return _MasterPool(url.master, sentinel, **{**options, **url.options})  # type: ignore[no-untyped-call]


class _Pool(BlockingConnectionPool):
    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connects, without redis-py's check for unread data on the connection.

        The check takes a fifth of a round trip and is not needed: redis-py closes a connection
        whose command was interrupted, and opens a connection again that the server has closed.
        """
        await connection.connect()  # type: ignore[no-untyped-call]


class _MasterPool(SentinelConnectionPool, _Pool):
    """Asks the sentinels for the master's address before each new connection."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002
        """Closes the connections to the sentinels, too."""
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.connection_pool.disconnect()


class _BoundedRedis(ArqRedis):
    """Limits the time of each command, without redis-py's `socket_timeout`.

    With `socket_timeout`, redis-py sends commands through `asyncio.wait_for`. Before Python 3.12,
    `asyncio.wait_for` can lose a cancellation (python/cpython#86296), so that a worker would not
    stop at SIGTERM.
    """

    timeout_s = COMMAND_TIMEOUT_S
    outage_log: OutageLog | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        async with _bounded(self.timeout_s, self.outage_log):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001, FBT002
        pipeline = _BoundedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipeline.outage_log = self.outage_log
        return pipeline


class _SentinelClient(_BoundedRedis):
    """Has a shorter time limit, because another sentinel may answer in place of this sentinel."""

    timeout_s = SENTINEL_TIMEOUT_S


class _BoundedPipeline(Pipeline):
    outage_log: OutageLog | None = None

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002
        async with _bounded(COMMAND_TIMEOUT_S, self.outage_log):
            try:
                return await super().execute(raise_on_error)
            except NoScriptError as error:  # redis-py has loaded the pipeline's scripts before
                raise RedisUnavailable("Redis was restarted while it loaded a script") from error


@asynccontextmanager
async def _bounded(seconds: float, outages: OutageLog | None = None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except NoScriptError:  # redis-py loads the script and repeats the command: see `Script`
        raise
    except RuntimeError as error:  # uvloop raises this for a connection that was just closed
        if "closed" not in str(error):
            raise
        unavailable = RedisUnavailable("the connection to Redis was closed")
        if outages:
            outages.failed(str(unavailable))
        raise unavailable from error
    except (RedisError, OSError) as error:  # TimeoutError is an OSError
        unavailable = _unavailable(error, seconds)
        if outages:
            outages.failed(str(unavailable))
        if unavailable is error:
            raise
        raise unavailable from error
    if outages and outages.is_open:
        outages.succeeded()


def _unavailable(error: RedisError | OSError, seconds: float) -> RedisUnavailable:
    match error:
        case RedisUnavailable():
            return error
        case RedisConnectionError():
            return RedisUnavailable(str(error) or type(error).__name__)
        case OutOfMemoryError():
            return RedisFull("Redis uses all of its memory (maxmemory)")
        case TimeoutError():
            return RedisUnavailable(f"Redis did not answer in {seconds:g} s")
        case OSError():
            return RedisUnavailable(str(error) or type(error).__name__)
    return RedisUnavailable(type(error).__name__)  # the text may repeat arguments (prompts)


class Script(AsyncScript):
    """Runs a script. Raises RedisUnavailable in place of redis-py's NoScriptError.

    redis-py loads a script that Redis does not know, and runs the script once more. If Redis is
    restarted between these two steps, redis-py raises NoScriptError.
    """

    async def __call__(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        try:
            return await super().__call__(*args, **options)
        except NoScriptError as error:
            raise RedisUnavailable("Redis was restarted while it loaded a script") from error
