"""Finds the lines of a TOML document, because `tomllib` returns values without their positions."""

import tomllib
from collections.abc import Iterator, Mapping

Path = tuple[str, ...]


def lines_of(text: str) -> dict[Path, int]:
    """Returns the number of the first line of each table and each key of a valid document.

    Keys inside an inline table or an array have the line of the statement that contains them.
    """
    lines: dict[Path, int] = {(): 1}
    table: Path = ()
    for number, statement in _statements(text):
        content = tomllib.loads(statement)
        is_header = statement.lstrip().startswith("[")
        if is_header:
            table = max(_paths(content), key=len)
        above = () if is_header else table
        for path in _paths(content):
            lines.setdefault((*above, *path), number)
    return lines


def line_of(path: tuple[int | str, ...], lines: Mapping[Path, int]) -> int:
    """Returns the line of a path, or of the nearest path above it that has a line."""
    names = tuple(name for name in path if isinstance(name, str))
    while names not in lines:
        names = names[:-1]
    return lines[names]


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yields the statements of a document, each with the number of its first line.

    Lines belong to the same statement until they are a valid document together: a statement ends at
    the end of a line, unless a string, an array or an inline table is still open, and then the text
    so far is not valid.
    """
    open_lines: list[str] = []
    # Not splitlines(), because TOML has fewer line ends: https://toml.io/en/v1.0.0#spec
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        open_lines.append(line)
        statement = "\n".join(open_lines)
        try:
            tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        yield number - len(open_lines) + 1, statement
        open_lines.clear()


def _paths(value: object, above: Path = ()) -> Iterator[Path]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield (*above, name)
            yield from _paths(inner, (*above, name))
