"""Defines the consoles of the commands: results go to stdout, everything else to stderr."""

import sys

from rich.console import Console

PLAIN_WIDTH = 160  # width in columns if stdout is not a terminal

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)
