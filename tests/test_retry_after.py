"""Tests how a wait is read from headers, from the JSON and from the text of an error."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from worker.providers.retry_after import reset_s, wait_s

NOW = datetime(2026, 11, 6, 8, 0, tzinfo=UTC)
EPOCH = 1_793_952_000  # NOW as seconds since 1970


def wait(error: Any = None, text: str = "", **headers: Any) -> float | None:
    return wait_s(httpx.Headers(headers), error, text, NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("1.5", 1.5),
        ("  7\t", 7),
        ("86400", 86_400),
        ("604801", 604_800),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("31622400", 604_800),
        ("31622401", None),
        ("9" * 400, None),
        ("1_000", None),
        ("soon", None),
        ("7 seconds", None),
        ("0x10", None),
        ("2026-11-06T08:02:00Z", None),
        ("Fri, 06 Nov 2026 08:02:00 GMT", 120),
        ("Fri, 06 Nov 2026 10:02:00 +0200", 120),
        ("Fri, 06 Nov 2026 08:02:00 -0000", 120),
        ("Fri, 06 Nov 2026 08:00:00 GMT", 0),
        ("Fri, 06 Nov 2026 07:59:59 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Friday, 06-Nov-26 08:02:00 GMT", 120),  # RFC 850
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
        ("Fri Nov  6 08:02:00 2026", 120),  # asctime
        ("Sun Nov  6 08:49:37 1994", 0),
        ("Fri, 31 Nov 2026 08:02:00 GMT", None),
        ("Fri, 06 Nov 2026 25:02:00 GMT", None),
        ("Fri, 06 Nov 99999999999999999999 08:02:00 GMT", None),
        ("Fri, 06 Nov 2026 99999999999999999999:02:00 GMT", None),
        ("Fri, 06 Nov 2026 08:02:00 +99999999999999999999", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert wait(**{"Retry-After": value}) == seconds


def test_no_retry_after() -> None:
    assert wait() is None


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Fri, 06 Nov 2026 07:00:00 GMT", 3720),
        ("Fri, 06 Nov 2026 08:01:30 GMT", 30),
        ("Fri, 06 Nov 2026 09:00:00 GMT", 0),
        ("Friday, 06-Nov-26 08:01:00 GMT", 60),
        ("Fri Nov  6 08:01:00 2026", 60),
        ("yesterday", 120),
        ("", 120),
        ("Fri, 06 Nov 99999999999999999999 08:02:00 GMT", 120),
    ],
)
def test_date_of_retry_after_is_read_by_the_senders_clock(date: str, seconds: float) -> None:
    headers = httpx.Headers({"Retry-After": "Fri, 06 Nov 2026 08:02:00 GMT", "Date": date})
    assert wait_s(headers, None, "", NOW) == seconds


def test_date_changes_nothing_for_seconds() -> None:
    headers = httpx.Headers({"Retry-After": "7", "Date": "Fri, 06 Nov 2026 07:00:00 GMT"})
    assert wait_s(headers, None, "", NOW) == 7


def test_the_first_form_that_can_be_read_counts() -> None:
    forms: dict[str, Any] = {
        "Retry-After-Ms": "2500",
        "Retry-After": "3",
        "error": {"error": {"details": [{"retryDelay": "4s"}]}},
        "X-RateLimit-Reset": "5",
        "text": "Please try again in 6s.",
    }
    found = []
    while forms:
        found.append(wait(**forms))
        del forms[next(iter(forms))]
    assert found == [2.5, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("6m0s", 360),
        ("120ms", 0.12),
        ("2m59.56s", 179.56),
        ("1h12m3s", 4323),
        ("1d", 86_400),
        ("7.66s", 7.66),
        ("17", 17),
        ("33011.382867", 33_011.382867),
        ("2026-11-06T08:00:30Z", 30),
        ("2026-11-06T09:00:30+01:00", 30),
        ("2026-11-06T08:00:30.500", 30.5),
        ("2026-11-06T07:00:00Z", 0),
        ("Fri, 06 Nov 2026 08:02:00 GMT", 120),
        (str(EPOCH + 45), 45),
        (str((EPOCH + 45) * 1000 + 250), 45.25),
        (str(EPOCH - 45), 0),
        ("", None),
        ("-1", None),
        ("-5s", None),
        ("nan", None),
        ("soon", None),
        ("5 parsecs", None),
        ("2026-13-01T00:00:00Z", None),
    ],
)
def test_reset(value: str, seconds: float | None) -> None:
    assert reset_s(value, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 0.12),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "2m59.56s",
                "x-ratelimit-remaining-tokens": "5000",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            179.56,
        ),
        (  # both are used up
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6s",
            },
            6,
        ),
        (
            {
                "anthropic-ratelimit-requests-remaining": "3",
                "anthropic-ratelimit-requests-reset": "2026-11-06T08:10:00Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-06T08:00:12Z",
            },
            12,
        ),
        (
            {
                "x-ratelimit-remaining-requests-day": "0",
                "x-ratelimit-reset-requests-day": "33011.38",
            },
            33_011.38,
        ),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str((EPOCH + 8) * 1000)}, 8),
        ({"X-RateLimit-Reset": str(EPOCH + 8)}, 8),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "9"}, 9),
        (
            {
                "Date": "Fri, 06 Nov 2026 07:59:00 GMT",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(EPOCH),
            },
            60,
        ),
        # Absent values of Azure
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "9"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": ""}, None),
        ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "1s"}, None),
    ],
)
def test_reset_of_what_is_used_up(headers: dict[str, str], seconds: float | None) -> None:
    assert wait(**headers) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        ({"error": {"details": [{"@type": "x"}, {"retryDelay": "14s"}]}}, 14),
        ([{"error": {"details": [{"retryDelay": "0.5s"}]}}], 0.5),
        ({"error": {"details": [{"retryDelay": "-3s"}]}}, None),
        ({"error": {"metadata": {"retry_after_seconds": 24.5}}}, 24.5),
        ({"error": "Model m is currently loading", "estimated_time": 20.0}, 20),
        ({"error": {"retry_after": 10**400}}, None),
        ({"error": {"retry_after": True}}, None),
        (
            {"error": {"metadata": {"headers": {"X-RateLimit-Reset": str((EPOCH + 8) * 1000)}}}},
            8,
        ),
    ],
)
def test_wait_in_the_json(error: Any, seconds: float | None) -> None:
    assert wait(error) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Limit 6000, Used 5000, Requested 4351. Please try again in 5.289s. Visit x.", 5.289),
        ("Please try again in 2m59.56s.", 179.56),
        ("Please try again in 6ms.", 0.006),
        ("Please try again in 1h12m.", 4320),
        ("Please retry after 20 seconds. Please go to https://x", 20),
        ("Please retry in 14.405s.", 14.405),
        ("Try again after 1m2s", 62),
        ("Rate limit exceeded, wait 5 seconds", 5),
        ("Wait for 1 hour, 2 minutes and 3 seconds.", 3723),
        ("You will regain access on 2026-11-08 at 00:00 UTC.", 144_000),
        ("You will regain access on 2026-12-01 at 00:00 UTC.", 604_800),
        ("Please try again later. 5 of 7 failed", None),
        ("Limit: 20 / min", None),
        ("try again in 9999h9m" + "9" * 400 + "s", None),
        ("try again in 5 sheep", None),
        ("try again in " + "1 " * 100_000, None),
        ("wait " * 50_000, None),
    ],
)
def test_wait_in_the_text(text: str, seconds: float | None) -> None:
    assert wait(text=text) == (None if seconds is None else pytest.approx(seconds))
