"""Repeats a call while Redis is unavailable."""

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from shared.redis.client import RETRY_INTERVAL_S, RedisUnavailable

STREAM_RETRY_S = 30.0  # time for which a read of a stream is retried


def redis_retry(retry_for_s: float) -> AsyncRetrying:
    """Returns an object `retry` for calls like `await retry(function, *args)`.

    The function must be safe to repeat. Such a call raises RedisUnavailable if Redis is still
    unavailable after `retry_for_s`. Any other exception of the function is raised immediately.
    """
    return AsyncRetrying(
        retry=retry_if_exception_type(RedisUnavailable),
        stop=stop_after_delay(retry_for_s),
        wait=wait_fixed(RETRY_INTERVAL_S),
        reraise=True,
    )
