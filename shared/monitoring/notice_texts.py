"""Writes counts, durations and times in the sentences of notices."""

from datetime import datetime, timedelta


def are(requests: int, state: str, *, provider: str = "") -> str:
    """Returns, for example, "1 request is queued" or "2 requests for openai are queued"."""
    target = f" for {provider}" if provider else ""
    return f"{count(requests, 'request')}{target} {'is' if requests == 1 else 'are'} {state}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Formats a duration, for example as "89 s" or "2 min".

    Uses minutes from 90 s and hours from 90 min, because "1 min" could mean 89 s.
    """
    units = (("s", 1), ("min", 60), ("h", 3600))
    unit, length = next(u for u in reversed(units) if seconds >= 1.5 * u[1] or u[1] == 1)
    return f"{seconds / length:.0f} {unit}"


def clock(time: datetime, at: datetime) -> str:
    """Returns a time of day, with the date if the time is a day or more from `at`."""
    is_near = abs(time - at) < timedelta(days=1)
    return f"{time:%H:%M:%S} UTC" if is_near else f"{time:%Y-%m-%d %H:%M:%S} UTC"
