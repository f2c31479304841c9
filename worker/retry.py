"""Decides after a failed call whether the item may run again, and after how long."""

import random
from collections.abc import Callable

from worker.providers.errors import ProviderError, Verdict

BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 30.0

# The same call would fail again, whatever the provider's state is.
FINAL = {
    Verdict.CONTEXT_TOO_LONG,
    Verdict.CONTENT_FILTERED,
    Verdict.REJECTED,
    Verdict.MODEL_NOT_FOUND,
}


def backoff_s(attempt: int, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Returns the time until the next attempt. The first `attempt` is 1.

    The wait is exponential with full jitter, a random time of up to
    `min(cap, base * 2 ** (attempt - 1))`:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return jitter(0.0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** (attempt - 1)))


def is_refusal(error: ProviderError) -> bool:
    """Returns whether the provider works, but takes no more requests for now."""
    return error.verdict in {Verdict.RATE_LIMITED, Verdict.OVERLOADED}
