"""Waits until Redis is available, before `orchestrator up` starts the API and the workers."""

import asyncio
from collections.abc import Callable
from time import monotonic

from shared.queue.layout_version import RETRY_S, LayoutMismatch, claim_layout, layout_check
from shared.queue.redis_keys import Keys
from shared.redis.client import RedisUnavailable, connect
from shared.redis.outage_log import redis_address


class RedisStartError(Exception):
    """Redis cannot be used. `str(error)` says why, and what to do."""


async def wait_for_redis(
    url: str, keys: Keys, limit_s: float, notice: Callable[[str], None]
) -> None:
    """Waits for Redis for up to `limit_s`, and checks the layout version of the data.

    Without this check, every process would report a wrong version itself. If Redis is unavailable
    at the first attempt, calls `notice` with a message. Raises RedisStartError if Redis stays
    unavailable, or if the data has another layout version.
    """
    redis = connect(url, layout_check(keys), log_outages=False)
    ends_at = monotonic() + limit_s
    reported = False
    try:
        while True:
            try:
                return await claim_layout(redis, keys)
            except LayoutMismatch as error:
                raise RedisStartError(str(error)) from None
            except RedisUnavailable as error:
                reason = str(error).rstrip(".")
                unavailable = f"Redis at {redis_address(url)} is unavailable: {reason}."
                if monotonic() > ends_at:
                    raise RedisStartError(
                        f"{unavailable} Start Redis, or correct REDIS_URL. Without REDIS_URL, an"
                        " embedded Valkey runs."
                    ) from None
                if not reported:
                    notice(f"{unavailable} Waiting for Redis for up to {limit_s:.0f} s.")
                reported = True
            await asyncio.sleep(RETRY_S)
    finally:
        await redis.aclose()
