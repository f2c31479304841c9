import pytest

from worker.retry import backoff_s

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
