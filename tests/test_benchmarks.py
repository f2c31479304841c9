"""Tests the tables of the benchmarks. CI runs the benchmarks themselves in small sizes."""

import pytest

from benchmarks.measured_values import Figure, Sample
from benchmarks.report import table


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.4567], "0.457"),
        ([3, 1, 2], "2 (1–3)"),  # noqa: RUF001
        ([31.04, 29.4, 32.9], "31.0 (29.4–32.9)"),  # noqa: RUF001
        ([4316.2, 2182, 5326], "4,316 (2,182–5,326)"),  # noqa: RUF001
        ([10, 10, 10], "10.0"),
    ],
)
def test_a_sample_is_its_median_and_range(values: list[float], text: str) -> None:
    assert str(Sample.of(values)) == text


def test_a_table_says_what_is_missed() -> None:
    figures = [
        Figure("waits", "ms", "≤ 4", {"a": Sample.of([9]), "c": Sample.of([3])}, met=True),
        Figure("peak", "", "10", {"a": Sample.of([1]), "c": Sample.of([11])}, met=False),
        Figure("seen", "", "", {}),
    ]

    assert table(figures, ("a", "c")) == [
        "|  | (a) | (c) | target for (c) | met |",
        "| --- | --- | --- | --- | --- |",
        "| waits | 9 ms | 3 ms | ≤ 4 | yes |",
        "| peak | 1 | 11.0 | 10 | **no** |",
        "| seen |  |  |  |  |",
    ]
