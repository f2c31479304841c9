"""Recognises a table in an input of `orchestrator submit`: rows of values, below a row of names."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cli.input_errors import InputError

DELIMITERS = {",": "CSV", "\t": "TSV", ";": "CSV (with semicolons)"}
READ_CHARACTERS = 256 * 1024  # number of characters after which no further row is compared
COMPARED_ROWS = 50

# The default, 128 KiB, is too small for long prompts. Without a limit, a quote that is not closed
# would read the rest of the file into memory.
csv.field_size_limit(64 * 1024 * 1024)

# Unlike a prompt, the name of a column does not end like a sentence, and has at most 60 characters.
_COLUMN = re.compile(r"[^\s\"](?:[^\n\"]{0,58}[^\s\".?!:])?")
_MINIMUM = 2  # minimum number of rows, including the row of names, and of columns


@dataclass(frozen=True, slots=True)
class Table:
    """The input is a table: rows of values, below a row with the names of the columns."""

    delimiter: str
    columns: list[str]

    @property
    def name(self) -> str:
        return DELIMITERS[self.delimiter]


def named_table(path: Path, delimiter: str) -> Table:
    """Returns the table in a file whose extension is that of a table, such as `.csv`.

    Raises InputError if there is no row below the names, or if one of these two rows cannot be
    read.

    delimiter: "" if the extension does not tell the delimiter: then the first line decides.
    """
    if not delimiter:
        with path.open(encoding="utf-8-sig") as file:
            delimiter = max(",", ";", "\t", key=file.readline(READ_CHARACTERS).count)
    header, *rows = islice(read_rows(path, delimiter), _MINIMUM)
    if not rows:
        raise InputError(f"the table has the columns {', '.join(header.values)}, but no rows")
    return Table(delimiter, header.values)


def find_table(path: Path, field: str | None) -> Table | None:
    """Returns the table that the file contains, or None if the file contains other text.

    Raises InputError if the file is probably a table that cannot be read.

    field: the column that the user named. A file whose first row has this column is a table.
    """
    for delimiter in ("\t", ",", ";"):
        rows: list[list[str]] = []
        error = ""
        try:
            rows.extend(row.values for row in islice(read_rows(path, delimiter), COMPARED_ROWS))
        except InputError as refused:
            error = str(refused)
        if not rows:
            continue
        columns = rows[0]
        if field and field in columns:
            return Table(delimiter, columns)
        if not _are_columns(columns):
            continue
        widths = {len(row) for row in rows[1:]}
        if not error and widths == {len(columns)}:
            return Table(delimiter, columns)
        full = sum(len(row) >= len(columns) for row in rows[1:])
        if error or full > len(rows[1:]) / 2:
            raise InputError(
                f"the input looks like {DELIMITERS[delimiter]} with the columns"
                f" {', '.join(columns[:12])}, but {error or 'its rows have different lengths'}. Put"
                " a text that contains the delimiter in quotes. If each line is a prompt, add"
                " --lines"
            )
    return None


@dataclass(frozen=True, slots=True)
class Row:
    """Holds the values of a row, and the number of the row's last line."""

    values: list[str]
    line: int


def read_rows(path: Path, delimiter: str, *, whole: bool = False) -> Iterator[Row]:
    """Yields the rows that are not empty. Raises InputError at a row that cannot be read.

    whole: False: stops when the values of the rows have more than READ_CHARACTERS characters.
    """
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        read = 0
        complete = 0  # number of the last line of the last complete row
        try:
            for values in reader:
                complete = reader.line_num
                if values:
                    yield Row(values, complete)
                read += sum(map(len, values))
                if not whole and read > READ_CHARACTERS:
                    return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise InputError(
                    f"the quote that opens in the row of line {complete + 1} is not closed"
                ) from None
            raise InputError(f"line {reader.line_num} is not a row of a table: {error}") from None


def _are_columns(names: list[str]) -> bool:
    return (
        len(names) >= _MINIMUM
        and len(set(names)) == len(names)
        and all(_COLUMN.fullmatch(name) for name in names)
    )
