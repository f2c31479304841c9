"""Reads what README and `docs/` show: commands with their output, and Python programs."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DOCUMENTS = (
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    PROJECT / "client" / "README.md",
    *sorted((PROJECT / "docs").rglob("*.md")),
)

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TOKEN = re.compile(r"\A…\n|\n…(?=\n|$)|…|,\n|\s+|[─━]+|[0-9a-f]{32}|\d(?:[\d.,:]*\d)?")
_PATTERNS = {"…": ".*?", "─": "[─━]+", "━": "[─━]+"}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a document."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and the output that is shown below it; empty if none is shown."""

    line: str
    output: str


def name_of(document: Path) -> str:
    return str(document.relative_to(PROJECT))


def blocks(document: Path) -> list[Block]:
    return [Block(*match.groups()) for match in _BLOCK.finditer(document.read_text())]


def commands(document: Path) -> list[Command]:
    """Returns the commands of the `console` blocks: `$ `, lines that continue it with four spaces,
    then the output."""
    found = []
    for block in blocks(document):
        if block.language == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                match = re.fullmatch(r"([^\n]*(?:\n {4}[^\n]*)*)\n(.*)", part, re.DOTALL)
                assert match, part
                found.append(Command(match[1], match[2].strip()))
    return found


def programs(document: Path) -> list[Command]:
    """Returns the Python programs, each with the `text` block that follows it as its output."""
    return [
        Command(block.text, after.text.strip() if after.language == "text" else "")
        for block, after in pairwise([*blocks(document), Block("", "")])
        if block.language == "python"
    ]


def is_shown(shown: str, actual: str) -> bool:
    """Compares an output with the one that a document shows.

    Numbers, times and job ids may differ, as may the width of columns and bars; `…` stands for any
    text.
    """
    pattern, end = "", 0
    for match in _TOKEN.finditer(shown):
        pattern += re.escape(shown[end : match.start()]) + _pattern(match[0])
        end = match.end()
    pattern += re.escape(shown[end:])
    return re.fullmatch(pattern, actual.strip(), re.DOTALL) is not None


def _pattern(part: str) -> str:
    if part == "…\n":  # any number of lines, as below
        return r"(?:.*\n)?"
    if part == "\n…":
        return r"(?:\n.*)?"
    if part == ",\n":  # a long line of JSON is shown as several
        return r",\s*"
    if part.isspace():
        return r"\s+"
    if len(part) == 32:  # hexadecimal digits: a job id
        return "[0-9a-f]{32}"
    return _PATTERNS.get(part[0], r"\d(?:[\d.,:]*\d)?")
