"""What follows a failed attempt: a pure decision."""

from dataclasses import dataclass

from tenacity import RetryCallState, stop_after_attempt, wait_random_exponential

from worker.providers.errors import ProviderError, RateLimited, Rejected

BACKOFF_S = wait_random_exponential(multiplier=0.5, max=30)  # exponential, full jitter
MAX_PAUSE_S = 600.0  # a provider may not stop its lane for longer than this at a time


@dataclass(frozen=True, slots=True)
class Again:
    """The item goes back to the queue; with a pause, so does all of its lane."""

    delay_s: float = 0.0
    pause_s: float = 0.0


def decide(error: ProviderError, *, attempt: int, max_retries: int) -> Again | None:
    """`attempt` counts from 1. None: the error is final."""
    if isinstance(error, Rejected) or stop_after_attempt(max_retries + 1)(_state(attempt)):
        return None
    if isinstance(error, RateLimited):
        return Again(pause_s=pause_s(error, attempt=attempt))
    return Again(delay_s=BACKOFF_S(_state(attempt)))


def pause_s(error: ProviderError, *, attempt: int) -> float:
    """How long the lane pauses after this error, also when it is final for the item."""
    if not isinstance(error, RateLimited):
        return 0.0
    if error.retry_after_s is None:
        return BACKOFF_S(_state(attempt))
    return min(error.retry_after_s, MAX_PAUSE_S)


def _state(attempt: int) -> RetryCallState:
    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = attempt
    return state
