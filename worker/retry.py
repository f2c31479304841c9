"""Decides after a failed call whether the item runs again, and after how long.

shared/queue/lua/lib/pauses.lua decides for how long the provider is paused for all items.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from shared.models import ErrorCode
from shared.queue.item_results import DEADLINE_EXCEEDED
from shared.queue.leases import CallUsage
from shared.queue.verdict import Verdict
from worker.attempt_results import failed_result, fault_of
from worker.outcomes import Attempt, Finished, NoRetriesLeft, Retry, TaskOutcome
from worker.providers.errors import ProviderError

BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 30.0

# After these verdicts, the same call would fail again, even if the provider is healthy.
_FINAL = {
    Verdict.CONTEXT_TOO_LONG,
    Verdict.CONTENT_FILTERED,
    Verdict.REJECTED,
    Verdict.MODEL_NOT_FOUND,
}


def outcome_after(
    error: ProviderError,
    attempt: Attempt,
    latency_ms: float,
    usage: CallUsage | None,
    *,
    max_retries: int,
    has_alternative: bool,
) -> TaskOutcome:
    """Returns the outcome of an attempt that failed with `error`.

    The outcome is a Finished with the error if the same call would fail again, if `max_retries` is
    0, or if the next attempt would start after the job's deadline. In the last case, the code is
    DEADLINE_EXCEEDED. Otherwise the outcome is a Retry, or NoRetriesLeft after `max_retries`
    retries.

    has_alternative: whether another deployment or model may serve the item, so that the item does
        not have to wait for this deployment.
    """
    fault = fault_of(error)
    failed = failed_result(error.code, error.message, error, attempt, latency_ms)
    if error.verdict in _FINAL:
        return Finished(failed, fault, usage)
    if max_retries == 0:  # one call per item; no pause begins unless the provider asks to wait
        asks_to_wait = _is_refusal(error) and bool(error.wait_s)
        return Finished(failed, replace(fault, ignored=not asks_to_wait), usage)
    delay_s = backoff_s(attempt.number) if attempt.number <= max_retries else None
    wait_s = 0 if has_alternative else error.wait_s
    if max(delay_s or 0, wait_s or 0) >= attempt.remaining_s - latency_ms / 1000:
        message = f"{DEADLINE_EXCEEDED.error}; the last attempt failed: {error.message}"
        code = ErrorCode.DEADLINE_EXCEEDED
        return Finished(failed_result(code, message, error, attempt, latency_ms), fault, usage)
    if delay_s is None:
        return NoRetriesLeft(failed, fault, usage)
    return Retry(delay_s, failed, fault, usage)


def backoff_s(attempt: int, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Returns the seconds to wait after `attempt` has failed. The first `attempt` is 1.

    The wait is exponential with full jitter, a random time of up to
    `min(cap, base * 2 ** (attempt - 1))`:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return jitter(0.0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** (attempt - 1)))


def _is_refusal(error: ProviderError) -> bool:
    """Returns whether the provider works, but refuses further calls for now."""
    return error.verdict in {Verdict.RATE_LIMITED, Verdict.OVERLOADED}
