"""Decides when a failed item is retried, and how long its lane is paused."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from worker.providers.errors import ProviderError, Verdict

BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 30.0
MAX_PAUSE_S = 600.0  # limit of the pause that one Retry-After causes

_FINAL = {
    Verdict.QUOTA_EXHAUSTED,
    Verdict.UNAUTHORIZED,
    Verdict.CONTEXT_TOO_LONG,
    Verdict.CONTENT_FILTERED,
    Verdict.REJECTED,
    Verdict.MODEL_NOT_FOUND,
}


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Says when the item is retried, and how long its lane is paused.

    `delay_s` is None if the item is not retried. `pause_s` applies in both cases; 0 is no pause.
    """

    delay_s: float | None
    pause_s: float = 0.0


def decide(
    error: ProviderError,
    *,
    attempt: int,
    max_retries: int,
    jitter: Callable[[float, float], float] = random.uniform,
) -> RetryDecision:
    """Returns the decision after an attempt that failed with `error`. The first `attempt` is 1.

    A rate limit pauses the whole lane, so the item needs no further delay. Without a Retry-After,
    the wait is exponential with full jitter, a random time of up to
    `min(cap, base * 2 ** (attempt - 1))`:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    backoff_s = jitter(0.0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** (attempt - 1)))
    is_final = error.verdict in _FINAL or attempt > max_retries
    if error.verdict is Verdict.RATE_LIMITED or (
        error.verdict is Verdict.OVERLOADED and error.wait_s is not None
    ):
        pause_s = backoff_s if error.wait_s is None else min(error.wait_s, MAX_PAUSE_S)
        return RetryDecision(None if is_final else 0.0, pause_s)
    return RetryDecision(None if is_final else backoff_s)
