import pytest

from shared.models import ErrorCode
from worker.providers.errors import ProviderError, Verdict
from worker.retry_and_pause import MAX_PAUSE_S, RetryDecision, decide

DRAWS = 2000


def limited(wait_s: float | None, verdict: Verdict = Verdict.RATE_LIMITED) -> ProviderError:
    return ProviderError(
        verdict, ErrorCode.RATE_LIMITED, "slow down", status_code=429, wait_s=wait_s
    )


REJECTED = ProviderError(Verdict.REJECTED, ErrorCode.INVALID_REQUEST, "no")
TRANSIENT = ProviderError(Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR, "broken")
SAYS_WHEN = limited(7)
SAYS_NOTHING = limited(None)


@pytest.mark.parametrize(
    ("error", "attempt", "max_retries", "decision"),
    [
        (limited(7), 1, 3, RetryDecision(0, pause_s=7)),
        (limited(0), 1, 3, RetryDecision(0)),
        (limited(0.25), 3, 3, RetryDecision(0, pause_s=0.25)),
        (limited(MAX_PAUSE_S), 1, 3, RetryDecision(0, pause_s=600)),
        (limited(MAX_PAUSE_S + 1), 1, 3, RetryDecision(0, pause_s=600)),
        (limited(1e300), 1, 3, RetryDecision(0, pause_s=600)),
        (SAYS_WHEN, 3, 3, RetryDecision(0, pause_s=7)),
        (SAYS_WHEN, 4, 3, RetryDecision(None, pause_s=7)),
        (SAYS_WHEN, 1, 0, RetryDecision(None, pause_s=7)),
        (SAYS_NOTHING, 1, 3, RetryDecision(0, pause_s=0.5)),
        (SAYS_NOTHING, 3, 3, RetryDecision(0, pause_s=2)),
        (SAYS_NOTHING, 4, 3, RetryDecision(None, pause_s=4)),
        (SAYS_NOTHING, 1, 0, RetryDecision(None, pause_s=0.5)),
        (limited(7, Verdict.OVERLOADED), 1, 3, RetryDecision(0, pause_s=7)),
        (limited(None, Verdict.OVERLOADED), 1, 3, RetryDecision(0.5)),
        (TRANSIENT, 1, 3, RetryDecision(0.5)),
        (TRANSIENT, 3, 3, RetryDecision(2)),
        (TRANSIENT, 7, 100, RetryDecision(30)),
        (TRANSIENT, 100, 100, RetryDecision(30)),
        (TRANSIENT, 4, 3, RetryDecision(None)),
        (TRANSIENT, 5, 3, RetryDecision(None)),
        (TRANSIENT, 1, 0, RetryDecision(None)),
        (TRANSIENT, 101, 100, RetryDecision(None)),
        (REJECTED, 1, 3, RetryDecision(None)),
        (REJECTED, 1, 0, RetryDecision(None)),
        (REJECTED, 1, 100, RetryDecision(None)),
        (REJECTED, 4, 3, RetryDecision(None)),
    ],
)
def test_decide(
    error: ProviderError, attempt: int, max_retries: int, decision: RetryDecision
) -> None:
    """With `max` as the jitter, each wait is the longest possible wait."""
    assert decide(error, attempt=attempt, max_retries=max_retries, jitter=max) == decision


BACKOFF_BOUNDS_S = [
    (1, 0.5),
    (2, 1.0),
    (3, 2.0),
    (4, 4.0),
    (5, 8.0),
    (6, 16.0),
    (7, 30.0),
    (8, 30.0),
    (100, 30.0),
]


def decisions(error: ProviderError, attempt: int) -> list[RetryDecision]:
    return [decide(error, attempt=attempt, max_retries=100) for _ in range(DRAWS)]


@pytest.mark.parametrize(("attempt", "bound_s"), BACKOFF_BOUNDS_S)
def test_backoff_has_full_jitter(attempt: int, bound_s: float) -> None:
    drawn = decisions(TRANSIENT, attempt)
    delays_s = sorted(decision.delay_s for decision in drawn if decision.delay_s is not None)
    assert len(delays_s) == DRAWS
    found = (delays_s[0], delays_s[DRAWS // 2], delays_s[-1])
    assert found == pytest.approx((0, bound_s / 2, bound_s), abs=bound_s / 10)
    assert delays_s[0] >= 0
    assert delays_s[-1] <= bound_s
    assert {decision.pause_s for decision in drawn} == {0}


@pytest.mark.parametrize(("attempt", "bound_s"), BACKOFF_BOUNDS_S)
def test_pause_of_unsaid_length_has_full_jitter(attempt: int, bound_s: float) -> None:
    drawn = decisions(SAYS_NOTHING, attempt)
    pauses_s = sorted(decision.pause_s for decision in drawn)
    found = (pauses_s[0], pauses_s[DRAWS // 2], pauses_s[-1])
    assert found == pytest.approx((0, bound_s / 2, bound_s), abs=bound_s / 10)
    assert pauses_s[0] >= 0
    assert pauses_s[-1] <= bound_s
    assert {decision.delay_s for decision in drawn} == {0}
