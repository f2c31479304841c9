"""Watches how much memory Redis uses, so that new work is refused before Redis refuses writes."""

import asyncio
from contextlib import suppress

import structlog
from redis.asyncio import Redis

from shared.redis.client import RedisFull, RedisUnavailable

# The rest of the memory is for the results of accepted work.
MAX_USED = 0.9
READ_EVERY_S = 1.0
_MIB = 1024 * 1024

log = structlog.get_logger()


class RedisMemory:
    """Says whether Redis has room for new work.

    The figures are about `READ_EVERY_S` old at most. The bytes that this process has sent since
    the last reading are added.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._used = 0
        self._limit = 0  # 0: unknown
        self._was_full = False

    def check(self, size: int = 0) -> None:
        """Counts `size` bytes, which the caller sends next. Raises RedisFull if they do not fit."""
        if self._limit and self._used + size > MAX_USED * self._limit:
            raise RedisFull(self._figures())
        self._used += size

    async def watch(self) -> None:
        """Reads the figures every `READ_EVERY_S`, until cancelled."""
        while True:
            with suppress(RedisUnavailable):  # the client has logged it, and every command fails
                self._note(await self._redis.info("memory"))
            await asyncio.sleep(READ_EVERY_S)

    def _note(self, figures: dict[str, int]) -> None:
        self._limit = figures.get("maxmemory") or figures.get("total_system_memory") or 0
        self._used = figures["used_memory"] - figures.get("mem_not_counted_for_evict", 0)
        was_full, self._was_full = self._was_full, self._used > MAX_USED * self._limit > 0
        if self._was_full and not was_full:
            log.warning(
                "redis_almost_full",
                reason=self._figures(),
                consequence="new requests and files are refused; accepted jobs continue",
                remedy="raise maxmemory, delete files, or wait until results expire",
            )
        elif was_full and not self._was_full:
            log.warning("redis_has_memory", consequence="new requests are accepted again")

    def _figures(self) -> str:
        used, limit = self._used // _MIB, self._limit // _MIB
        at = f"{MAX_USED * 100:.0f} %"
        return (
            f"Redis uses {used} of {limit} MiB of memory; the API refuses new requests above {at}"
        )
