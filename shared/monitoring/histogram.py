"""Histograms of durations and token counts, fine enough for quantiles and exact for Prometheus.

A bucket is known by its number, which gives its upper bound. Buckets grow exponentially, so few
of them cover every value, and every bound that Prometheus is shown is also a bucket's bound.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, log2

from prometheus_client.utils import floatToGoString

BUCKETS_PER_OCTAVE = 4  # of a duration: each bucket is 19 % wide
UNIT_MS = 10  # upper bound of duration bucket 0
_MIN_MS = 0.1


def duration_bucket(ms: float) -> int:
    """Returns the bucket whose upper bound is `UNIT_MS * 2 ** (bucket / BUCKETS_PER_OCTAVE)` ms."""
    return ceil(BUCKETS_PER_OCTAVE * log2(max(ms, _MIN_MS) / UNIT_MS))


def token_bucket(tokens: int) -> int:
    """Returns the bucket whose upper bound is `4 ** bucket` tokens."""
    return (max(tokens, 1) - 1).bit_length() + 1 >> 1


@dataclass(slots=True)
class Histogram:
    count: int = 0
    sum: float = 0
    buckets: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # number → count

    def add(self, value: float, bucket: int) -> None:
        self.count += 1
        self.sum += value
        self.buckets[bucket] += 1

    def merge(self, other: "Histogram") -> None:
        self.count += other.count
        self.sum += other.sum
        for bucket, count in list(other.buckets.items()):
            self.buckets[bucket] += count

    def cumulative(self, bounds: Iterable[tuple[float, int]]) -> list[tuple[str, int]]:
        """Returns cumulative `(le, count)` pairs as Prometheus expects, ending with `+Inf`.

        `bounds` gives each upper bound with the number of the last bucket below it.
        """
        counted = list(self.buckets.items())  # copied at once: another thread may add buckets
        pairs = [
            (_le(bound), sum(count for bucket, count in counted if bucket <= last))
            for bound, last in bounds
        ]
        return [*pairs, ("+Inf", sum(count for _, count in counted))]


def quantile_ms(buckets: Mapping[int, int], q: float) -> float | None:
    """Returns the quantile `q` (0 to 1) of durations, within 10 %, or None without any.

    `buckets` maps a duration bucket's number to its count. Interpolates geometrically between the
    bounds of the bucket that holds the quantile.
    """
    rank = q * sum(buckets.values())
    if not rank:
        return None
    below = 0
    for bucket, count in sorted(buckets.items()):
        if below + count >= rank:
            share = (rank - below) / count
            return round(float(UNIT_MS * 2 ** ((bucket - 1 + share) / BUCKETS_PER_OCTAVE)), 1)
        below += count
    raise AssertionError


def _le(bound: float) -> str:
    le: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
    return le
