"""Durations and tokens in bins, finely enough for quantiles and as Prometheus wants them."""

from collections.abc import Iterable, Mapping
from math import ceil, log2

from prometheus_client.utils import floatToGoString

PER_OCTAVE = 4  # bins of a duration: 19 % wide
UNIT_MS = 10
_LEAST_MS = 0.1

Bins = dict[int, int]


def duration_bin(ms: float) -> int:
    """Its upper limit is `UNIT_MS` times 2 to the power of it over `PER_OCTAVE`."""
    return ceil(PER_OCTAVE * log2(max(ms, _LEAST_MS) / UNIT_MS))


def token_bin(tokens: int) -> int:
    """Its upper limit is 4 to the power of it."""
    return (max(tokens, 1) - 1).bit_length() + 1 >> 1


def quantile_ms(bins: Mapping[int, int], q: float) -> float | None:
    """Of durations, within 10 %: geometrically between the limits of its bin."""
    wanted = q * sum(bins.values())
    if not wanted:
        return None
    seen = 0
    for number, count in sorted(bins.items()):
        if seen + count >= wanted:
            share = (wanted - seen) / count
            return round(float(UNIT_MS * 2 ** ((number - 1 + share) / PER_OCTAVE)), 1)
        seen += count
    raise AssertionError


def _text(limit: float) -> str:
    text: str = floatToGoString(limit)  # type: ignore[no-untyped-call]
    return text


def cumulated(bins: Bins, limits: Iterable[tuple[float, int]]) -> list[tuple[str, int]]:
    """For each limit, given with the last bin below it: how many are not above; at last, all."""
    counted = list(bins.items())  # at once: another thread may add to them
    found = [
        (_text(limit), sum(count for number, count in counted if number <= last))
        for limit, last in limits
    ]
    return [*found, ("+Inf", sum(count for _, count in counted))]
