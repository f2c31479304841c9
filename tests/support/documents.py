"""Reads the commands, their output, and the Python programs that README and `docs/` show."""

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
    """Holds one fenced block of a document."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """Holds a command line and the output that the document shows for it, or ""."""

    line: str
    output: str


def name_of(document: Path) -> str:
    return str(document.relative_to(PROJECT))


def blocks(document: Path) -> list[Block]:
    return [Block(*match.groups()) for match in _BLOCK.finditer(document.read_text())]


def commands(document: Path) -> list[Command]:
    """Returns the commands of the document's `console` blocks.

    A command is a line that begins with `$ `, followed by further lines of the command, which begin
    with four spaces. The output comes after them.
    """
    found = []
    for block in blocks(document):
        if block.language == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                match = re.fullmatch(r"([^\n]*(?:\n {4}[^\n]*)*)\n(.*)", part, re.DOTALL)
                assert match, part
                found.append(Command(match[1], match[2].strip()))
    return found


def programs(document: Path) -> list[Command]:
    """Returns the Python programs of a document. The `text` block after a program is its output."""
    return [
        Command(block.text, after.text.strip() if after.language == "text" else "")
        for block, after in pairwise([*blocks(document), Block("", "")])
        if block.language == "python"
    ]


def is_shown(shown: str, actual: str) -> bool:
    """Returns whether the output `actual` matches the output `shown` in a document.

    Numbers, times, job ids and the width of columns and bars may differ. `…` matches any text.
    """
    pattern, end = "", 0
    for match in _TOKEN.finditer(shown):
        pattern += re.escape(shown[end : match.start()]) + _pattern(match[0])
        end = match.end()
    pattern += re.escape(shown[end:])
    return re.fullmatch(pattern, actual.strip(), re.DOTALL) is not None


def _pattern(part: str) -> str:
    if part == "…\n":  # matches any number of lines, like the next pattern
        return r"(?:.*\n)?"
    if part == "\n…":
        return r"(?:\n.*)?"
    if part == ",\n":  # a document may show a long line of JSON as several lines
        return r",\s*"
    if part.isspace():
        return r"\s+"
    if len(part) == 32:  # 32 hexadecimal digits are a job id
        return "[0-9a-f]{32}"
    return _PATTERNS.get(part[0], r"\d(?:[\d.,:]*\d)?")
