"""Reads the clock of the Redis server, which all times in Redis come from."""

from datetime import UTC, datetime

from redis.asyncio import Redis


async def read_time_s(redis: Redis) -> float:
    seconds, microseconds = await redis.time()
    return float(seconds + microseconds / 1_000_000)


def utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
