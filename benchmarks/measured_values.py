"""Defines measured values, with their median and range, and the targets for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Sample:
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample":
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        """Returns the median and, if the values differ, their range: `38 (36–41)`."""
        low, high = rounded(min(self.values)), rounded(max(self.values))
        middle = rounded(self.median)
        return middle if low == high else f"{middle} ({low}–{high})"


def rounded(value: float) -> str:
    """Returns the value as text, rounded to three digits; from 100 on, to an integer."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


@dataclass(slots=True)
class Figure:
    """Holds one row of the results: a sample for each system, or only for system (c)."""

    name: str
    unit: str
    target: str
    by_system: dict[str, Sample] = field(default_factory=dict)
    met: bool | None = None  # None if there is no target
