from math import inf

import pytest

from shared.models import ErrorCode
from shared.queue.ids import ItemId, LeaseId
from shared.queue.verdict import Verdict
from worker.outcomes import Attempt, Finished, NoRetriesLeft, Retry, TaskOutcome
from worker.providers.errors import ProviderError
from worker.retry import backoff_s, outcome_after

DRAWS = 2000


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


@pytest.mark.parametrize(("attempt", "bound_s"), BACKOFF_BOUNDS_S)
def test_backoff_has_full_jitter(attempt: int, bound_s: float) -> None:
    delays_s = sorted(backoff_s(attempt) for _ in range(DRAWS))
    found = (delays_s[0], delays_s[DRAWS // 2], delays_s[-1])
    assert found == pytest.approx((0, bound_s / 2, bound_s), abs=bound_s / 10)
    assert delays_s[0] >= 0
    assert delays_s[-1] <= bound_s


@pytest.mark.parametrize(
    ("verdict", "number", "max_retries", "remaining_s", "expected"),
    [
        (Verdict.TRANSIENT, 1, 3, inf, Retry),
        (Verdict.TRANSIENT, 3, 3, inf, Retry),
        (Verdict.TRANSIENT, 4, 3, inf, NoRetriesLeft),
        (Verdict.UNREACHABLE, 4, 3, inf, NoRetriesLeft),
        (Verdict.TRANSIENT, 4, 3, 0, Finished),
        (Verdict.TRANSIENT, 1, 0, inf, Finished),
        (Verdict.REJECTED, 1, 3, inf, Finished),
    ],
)
def test_what_follows_a_failed_call(
    verdict: Verdict,
    number: int,
    max_retries: int,
    remaining_s: float,
    expected: type[TaskOutcome],
) -> None:
    attempt = Attempt(
        ItemId("job:0"),
        LeaseId("job:0@1"),
        "openai",
        number=number,
        calls=number,
        queued_ms=0,
        retried_ms=0,
        remaining_s=remaining_s,
    )
    error = ProviderError(verdict, ErrorCode.PROVIDER_ERROR, "no")

    outcome = outcome_after(error, attempt, 1, None, max_retries=max_retries, has_alternative=False)

    assert type(outcome) is expected
    assert outcome.result is not None
    assert outcome.result.attempts == number
