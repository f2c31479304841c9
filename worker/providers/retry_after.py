"""Reads how long a provider asks to wait, with pure functions.

Vendors write the wait in headers, in the JSON of the error, or in the error's text. `wait_s` tries
all of these places, and returns the first wait that it can read.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeGuard

MAX_WAIT_S = 7 * 86_400.0  # a longer wait is reduced to this
_NONSENSE_S = 366 * 86_400.0  # a longer wait is ignored
_EPOCH_S, _EPOCH_MS = 1e9, 1e11  # from these on, a number is a time since 1970 in s or in ms
MAX_SEARCHED_TEXT = 4000  # limit of the text of a refusal that is searched, in characters
_MAX_DEPTH, _MAX_ENTRIES = 8, 32  # limits of the search in the JSON: see values_of

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(
    r"([0-9]+(?:\.[0-9]+)?)\s{0,3}"
    r"(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)"
    r"(?![a-z])[\s,]{0,3}(?:and\s{1,3})?",
    re.IGNORECASE,
)
_DURATION = re.compile(f"(?:{_PART.pattern})+", re.IGNORECASE)
# Such as "Please try again in 2m59.56s", "retry after 20 seconds", "wait 5 s"
_IN_TEXT = re.compile(
    r"\b(?:try|retry|retrying|wait|available|resets?)\b[^.\n]{0,60}?\s(?=[0-9])"
    f"((?:{_PART.pattern})+)",
    re.IGNORECASE,
)
# Such as Anthropic's "You will regain access on 2026-12-01 at 00:00 UTC."
_DATE_IN_TEXT = re.compile(r"\bon ([0-9]{4}-[0-9]{2}-[0-9]{2}) at ([0-9]{2}:[0-9]{2}) UTC")
# Fields with a wait: google.rpc.RetryInfo, OpenRouter, Hugging Face (a model that is loading)
_FIELDS = ("retryDelay", "retry_after", "retry_after_seconds", "estimated_time")


def wait_s(headers: Mapping[str, str], error: object, text: str, now: datetime) -> float | None:
    """Returns the seconds that the provider asks to wait, at most MAX_WAIT_S.

    Returns None if the response names no wait, or only waits of more than a year.

    headers: the names may be in upper or lower case, as in `httpx.Headers`.
    error: the JSON of the response, or None. text: the provider's reason.
    now: the time from which a wait until a date is computed, if the response has no Date header.
        The Date header is preferred, because clocks differ.
    """
    sent = sent_at(headers, now)
    waits = (_plausible(seconds) for seconds in _named(headers, error, text, sent))
    return next((wait for wait in waits if wait is not None), None)


def _named(
    headers: Mapping[str, str], error: object, text: str, sent: datetime
) -> Iterator[float | None]:
    milliseconds = number(headers.get("retry-after-ms", ""))
    yield None if milliseconds is None else milliseconds / 1000
    yield _retry_after(headers.get("retry-after", "").strip(), sent)
    for value in values_of(error, *_FIELDS):
        yield value if _is_number(value) else reset_s(str(value), sent)
    yield _exhausted(headers, sent)
    # OpenRouter repeats the headers in the JSON: https://openrouter.ai/docs/api-reference/limits
    for value in values_of(error, "headers"):
        if isinstance(value, dict):
            yield _exhausted({str(k).lower(): str(v) for k, v in value.items()}, sent)
    if found := _DATE_IN_TEXT.search(text[:MAX_SEARCHED_TEXT]):
        yield _until(f"{found[1]}T{found[2]}Z", sent)
    if found := _IN_TEXT.search(text[:MAX_SEARCHED_TEXT]):
        yield _duration(found[1])


def sent_at(headers: Mapping[str, str], now: datetime) -> datetime:
    """Returns when a response was sent, by its Date header; `now` if there is no valid one."""
    return _http_date(headers.get("date", "")) or now


def reset_s(value: str, sent: datetime) -> float | None:
    """Returns the seconds until a limit is reset, from a header's value.

    The value is a Go duration (`6m0s`, `120ms`), a number of seconds, a time since 1970 in seconds
    or in milliseconds, or a date (RFC 3339, RFC 9110). Returns None for anything else.
    """
    value = value.strip()
    count = number(value)
    if count is None:
        seconds = _duration(value)
        return _until(value, sent) if seconds is None else seconds
    if count >= _EPOCH_MS:
        return max(0.0, count / 1000 - sent.timestamp())
    return max(0.0, count - sent.timestamp()) if count >= _EPOCH_S else count


def values_of(value: object, *names: str, depth: int = 0) -> Iterator[Any]:
    """Yields the values of the fields with one of the `names`, at most _MAX_DEPTH levels deep.

    Searches the first _MAX_ENTRIES values inside each list and object.
    """
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value[:_MAX_ENTRIES]:
            yield from values_of(item, *names, depth=depth + 1)
    elif isinstance(value, dict):
        for name in names:
            if name in value:
                yield value[name]
        for item in list(value.values())[:_MAX_ENTRIES]:
            yield from values_of(item, *names, depth=depth + 1)


def _exhausted(headers: Mapping[str, str], sent: datetime) -> float | None:
    """Returns the seconds until all used-up limits are reset; None if no such limit names a time.

    A limit is used up if a header such as `x-ratelimit-remaining-tokens` or
    `anthropic-ratelimit-requests-remaining` is 0. Without any such header, `x-ratelimit-reset` and
    `ratelimit-reset` are read.
    """
    limits = {
        name: value
        for name, value in headers.items()
        if "ratelimit" in name and "remaining" in name
    }
    resets = [name.replace("remaining", "reset") for name, value in limits.items() if _is_0(value)]
    if not limits:
        resets = ["x-ratelimit-reset", "ratelimit-reset"]
    waits = (_plausible(reset_s(headers.get(name, ""), sent)) for name in resets)
    return max(filter(None, waits), default=None)


def _retry_after(value: str, sent: datetime) -> float | None:
    """Returns the seconds in a Retry-After (RFC 9110, 10.2.3), which is a number or a date."""
    seconds = number(value)
    if seconds is not None:
        return seconds
    until = _http_date(value)
    return _between(until, sent) if until else None


def _plausible(seconds: float | None) -> float | None:
    if seconds is None or not 0 <= seconds <= _NONSENSE_S:
        return None
    return min(seconds, MAX_WAIT_S)


def number(value: str) -> float | None:
    """Returns the number in a header's value; None if the value has a sign or is not a number."""
    value = value.strip()
    return float(value) if _NUMBER.fullmatch(value) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_0(value: str) -> bool:
    return number(value) == 0


def _duration(value: str) -> float | None:
    """Returns the seconds in a duration such as `6m0s`, `1 hour 2 minutes` or `120 ms`."""
    if not _DURATION.fullmatch(value):
        return None
    return sum(float(count) * _UNITS_S[_unit(unit.lower())] for count, unit in _PART.findall(value))


def _unit(name: str) -> str:
    return "ms" if name.startswith(("ms", "milli")) else name[0]


def _until(value: str, sent: datetime) -> float | None:
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        found = _http_date(value)
        return _between(found, sent) if found else None
    return _between(date if date.tzinfo else date.replace(tzinfo=UTC), sent)


def _between(until: datetime, sent: datetime) -> float:
    return max(0.0, (until - sent).total_seconds())


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
