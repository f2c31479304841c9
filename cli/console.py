"""Defines the consoles of the commands: results go to stdout, everything else to stderr."""

import sys
from collections.abc import Iterable
from io import TextIOWrapper

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from shared.terminal_text import visible, visible_json

PLAIN_WIDTH = 160  # width in columns if stdout is not a terminal


class SafeConsole(Console):
    """Shows control characters in texts instead of sending them to a terminal.

    The console's own control sequences, such as colours, are sent unchanged. Nothing changes if the
    output is not a terminal.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not self.is_terminal:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


out = SafeConsole(
    highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH
)
err = SafeConsole(stderr=True, highlight=False, soft_wrap=True)


def use_utf8() -> None:
    """Makes stdout and stderr write UTF-8 in every locale.

    Answers may contain any character.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def write_line(line: bytes) -> None:
    if sys.stdout.isatty():
        line = visible_json(line)
    sys.stdout.buffer.write(line + b"\n")
