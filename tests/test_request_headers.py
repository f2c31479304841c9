"""Tests the headers Prefer (RFC 7240) and x-stainless-retry-count."""

import pytest

from api.dependencies.request_headers import Preferences, is_repetition, parse_prefer


@pytest.mark.parametrize(
    ("header", "preferences"),
    [
        ("", Preferences()),
        ("respond-async", Preferences(respond_async=True)),
        ("Respond-Async", Preferences(respond_async=True)),
        (" respond-async ", Preferences(respond_async=True)),
        ('respond-async=""', Preferences(respond_async=True)),
        ("respond-async; foo=bar", Preferences(respond_async=True)),
        ("wait=10", Preferences(wait_s=10)),
        ("WAIT=10", Preferences(wait_s=10)),
        ('wait="10"', Preferences(wait_s=10)),
        ("wait = 10", Preferences(wait_s=10)),
        ("wait=0", Preferences(wait_s=0)),
        ("wait=10; foo", Preferences(wait_s=10)),
        ("respond-async, wait=10", Preferences(respond_async=True, wait_s=10)),
        ("wait=10,respond-async", Preferences(respond_async=True, wait_s=10)),
        ("wait=5, wait=10", Preferences(wait_s=5)),
        ("handling=lenient, wait=100, respond-async", Preferences(respond_async=True, wait_s=100)),
        (", ,wait=3,", Preferences(wait_s=3)),
        # Malformed and unknown preferences are ignored.
        ("wait", Preferences()),
        ("wait=", Preferences()),
        ("wait=soon", Preferences()),
        ("wait=-1", Preferences()),
        ("wait=1.5", Preferences()),
        ("wait=9999999999", Preferences()),
        ("return=minimal", Preferences()),
        ("respond-asynchronously", Preferences()),
        (";;==,,", Preferences()),
        # A quoted value may contain a comma or a semicolon.
        ('foo="a, wait=5, b"', Preferences()),
        ('foo="a, respond-async, b", wait=7', Preferences(wait_s=7)),
        ('foo="a;b", respond-async', Preferences(respond_async=True)),
        (r'foo="a\", wait=5, b"', Preferences()),
        ("a, " * 400 + "respond-async", Preferences()),  # the header is too long
    ],
)
def test_parse(header: str, preferences: Preferences) -> None:
    assert parse_prefer(header) == preferences


@pytest.mark.parametrize(
    ("preferences", "applied"),
    [
        (Preferences(), None),
        (Preferences(respond_async=True), "respond-async"),
        (Preferences(wait_s=10), "wait=10"),
        (Preferences(wait_s=0), "wait=0"),
    ],
)
def test_applied(preferences: Preferences, applied: str | None) -> None:
    assert preferences.applied == applied


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        ("1", True),
        ("10", True),
        ("9" * 5000, True),  # too long for `int`
        ("0", False),
        ("00", False),
        ("", False),
        ("-1", False),
        ("1.5", False),
        ("x", False),
    ],
)
async def test_repetition(count: str, expected: bool) -> None:  # noqa: FBT001
    assert await is_repetition(count) is expected
