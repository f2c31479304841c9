"""The connection to Redis: one bounded pool a process that outlives restarts of the server."""

import orjson
from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

MAX_CONNECTIONS = 32


def connect(url: str) -> ArqRedis:
    """A lazy pool: it connects at the first command. Every script that is sent through it may be
    sent twice (a reply can be lost), so each must be safe to repeat."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=5,
        socket_timeout=5,
        socket_connect_timeout=2,
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )
    return ArqRedis(pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads)
