"""Formats tables and durations for a terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table


def table(*columns: str) -> Table:
    return Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)


def duration(seconds: float) -> str:
    """Returns, for example, `2 h 5 min`, `3 min 20 s` or `12 s`."""
    seconds = max(0, round(seconds))
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
