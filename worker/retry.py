"""Decides what follows a failed attempt."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from worker.providers.errors import ProviderError, RateLimited, Rejected

BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 30.0
MAX_PAUSE_S = 600.0  # one Retry-After cannot stop a lane for longer than this


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """`delay_s` is None if the error is final for the item. The lane pauses in either case."""

    delay_s: float | None
    pause_s: float = 0.0


def decide(
    error: ProviderError,
    *,
    attempt: int,
    max_retries: int,
    jitter: Callable[[float, float], float] = random.uniform,
) -> RetryDecision:
    """Decides what follows attempt number `attempt` (from 1), which failed with `error`.

    A rate limit pauses the whole lane, so the item needs no delay of its own. Without a Retry-After
    the wait is exponential with full jitter, `random_between(0, min(cap, base * 2 ** attempt))`
    with attempts from 0: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    backoff_s = jitter(0.0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** (attempt - 1)))
    is_final = isinstance(error, Rejected) or attempt > max_retries
    if isinstance(error, RateLimited):
        asked_s = error.retry_after_s
        pause_s = backoff_s if asked_s is None else min(asked_s, MAX_PAUSE_S)
        return RetryDecision(None if is_final else 0.0, pause_s)
    return RetryDecision(None if is_final else backoff_s)
