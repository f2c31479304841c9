"""Counts durations and tokens in histograms.

A bucket has a number, which determines the bucket's upper bound. The width of buckets grows
exponentially, so that a few buckets cover every value. Each bound that Prometheus gets is also the
bound of a bucket, so the counts for Prometheus are exact.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, log2

from prometheus_client.utils import floatToGoString

BUCKETS_PER_OCTAVE = 4  # duration buckets per doubling: each bucket is 19 % wide
UNIT_MS = 10  # upper bound of duration bucket 0
_MIN_MS = 0.1


def duration_bucket(ms: float) -> int:
    """Returns the number of the bucket that contains the duration `ms`.

    The bucket's upper bound is `UNIT_MS * 2 ** (number / BUCKETS_PER_OCTAVE)` ms. Durations below
    0.1 ms count as 0.1 ms.
    """
    return ceil(BUCKETS_PER_OCTAVE * log2(max(ms, _MIN_MS) / UNIT_MS))


def token_bucket(tokens: int) -> int:
    """Returns the number of the bucket that contains the count `tokens`.

    The bucket's upper bound is `4 ** number` tokens. Bucket 0 also contains the count 0.
    """
    return (max(tokens, 1) - 1).bit_length() + 1 >> 1


@dataclass(slots=True)
class Histogram:
    count: int = 0
    sum: float = 0
    # Bucket number → count.
    buckets: dict[int, int] = field(default_factory=lambda: defaultdict(int))

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

        `bounds` has each upper bound with the number of the bucket that ends there.
        """
        counted = list(self.buckets.items())  # a copy, because another thread may add buckets
        pairs = [
            (_le(bound), sum(count for bucket, count in counted if bucket <= last))
            for bound, last in bounds
        ]
        return [*pairs, ("+Inf", sum(count for _, count in counted))]


def quantile_ms(buckets: Mapping[int, int], q: float) -> float | None:
    """Returns the quantile `q` (0 to 1) of durations in ms, or None without durations.

    `buckets` maps the number of a duration bucket to the bucket's count. The function interpolates
    geometrically between the bounds of the bucket that contains the quantile, so the result can be
    wrong by the width of a bucket, 19 %.
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
