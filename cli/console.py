"""Defines the consoles of the commands: results go to stdout, everything else to stderr."""

import sys
from io import TextIOWrapper

from rich.console import Console

PLAIN_WIDTH = 160  # width in columns if stdout is not a terminal

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def use_utf8() -> None:
    """Makes stdout and stderr write UTF-8 in every locale, because answers may contain
    any character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def write_line(line: bytes) -> None:
    """Writes a line of JSON to stdout."""
    sys.stdout.buffer.write(line + b"\n")
