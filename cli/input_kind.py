"""Recognises the kind of an input of `orchestrator submit`: by the end of its name, or else by its
content."""

import csv
import io
import json
import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson

from cli.input_errors import InputError

HEAD_BYTES = 256 * 1024  # size of the part of a file that is read to recognise a table
COMPARED_ROWS = 50
DELIMITERS = {",": "CSV", "\t": "TSV", ";": "CSV (with semicolons)"}

_PANDAS = "python -c \"import pandas; pandas.read_{}('FILE').to_csv('FILE.csv', index=False)\""
_BINARY = (
    (b"PAR1", "a Parquet file", _PANDAS.format("parquet")),
    (b"ARROW1", "an Arrow file", _PANDAS.format("feather")),
    (b"PK\x03\x04", "a spreadsheet or a ZIP archive", _PANDAS.format("excel") + ", or unzip it"),
    (b"\x1f\x8b", "compressed with gzip", "gunzip -c FILE | orchestrator submit -"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "zstd -dc FILE | orchestrator submit -"),
    (b"BZh", "compressed with bzip2", "bunzip2 -c FILE | orchestrator submit -"),
    (b"SQLite format 3", "an SQLite database", "sqlite3 -csv -header FILE 'SELECT …' > FILE.csv"),
    (b"%PDF", "a PDF document", "send its text"),
    (b"\xff\xfe", "UTF-16 text", "iconv -f UTF-16 -t UTF-8 FILE | orchestrator submit -"),
    (b"\xfe\xff", "UTF-16 text", "iconv -f UTF-16 -t UTF-8 FILE | orchestrator submit -"),
)
# Text may begin with a bracket, too, such as `[INST]`, `[1]` and `[{name}]`.
_ARRAY_START = re.compile(rb'\s*\[\s*("|\{\s*("|\}))')
# The name of a column, unlike a prompt, has no end of a sentence and no spaces around it.
_COLUMN = re.compile(r"[^\s\"](?:[^\n\"]{0,58}[^\s\".?!:])?")


@dataclass(frozen=True, slots=True)
class Table:
    """The input is a table: rows of values, below a row with the names of the columns."""

    delimiter: str
    columns: list[str]

    @property
    def name(self) -> str:
        return DELIMITERS[self.delimiter]


@dataclass(frozen=True, slots=True)
class JsonArray:
    """The input is one JSON array: each value is a request or a prompt."""

    values: list[object]


@dataclass(frozen=True, slots=True)
class JsonObjects:
    """The input is JSON objects, each on one line or on several lines.

    `first` is the first object, or None if the first object has several lines.
    """

    first: dict[str, object] | None


class JsonStrings:
    """The input has a JSON string on each line: each string is a prompt."""


class PlainText:
    """The input is text: each line is a prompt."""


InputKind = Table | JsonArray | JsonObjects | JsonStrings | PlainText


def recognise(path: Path, name: str, batch_bytes: int) -> InputKind:
    """Returns the kind of the file's content.

    Raises OSError, and InputError if the file has no requests, is binary, has a value that JSON
    does not allow, or is a JSON array that is broken or too large.

    name: the name that the user gave. If the name ends in .csv, .tsv or .tab, the input is a table.
    batch_bytes: limit of the size of a JSON array.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head.removeprefix(BOM_UTF8).strip() and len(head) < HEAD_BYTES:
        raise InputError("the input has no requests")
    is_complete = len(head) < HEAD_BYTES
    _refuse_binary(head)
    head = head.removeprefix(BOM_UTF8)
    text = head.decode(errors="replace")
    named = {".csv": "", ".tsv": "\t", ".tab": "\t"}.get(Path(name).suffix.lower())
    if named is not None:
        return _named_table(text, named)
    match head.lstrip()[:1]:
        case b"{" if (objects := _json_objects(head)) is not None:
            return objects
        case b"[" if (array := _json_array(path, head, batch_bytes)) is not None:
            return array
        case b'"' if _are_strings(path):
            return JsonStrings()
    for delimiter in ("\t", ",", ";"):
        rows = _rows(text, delimiter, is_complete=is_complete)
        if _is_table(rows):
            return Table(delimiter, rows[0])
    return PlainText()


def _refuse_binary(head: bytes) -> None:
    for signature, what, advice in _BINARY:
        if head.startswith(signature):
            raise InputError(f"the input is {what}. Convert it first: {advice}")
    if b"\0" in head:
        raise InputError("the input is not text: it contains zero bytes")


def _json_array(path: Path, head: bytes, max_bytes: int) -> JsonArray | None:
    """Returns the array, or None if the file is text that begins with a bracket.

    A broken array is refused, because each of its lines would be sent as a prompt.
    """
    is_array = _ARRAY_START.match(head) is not None
    if path.stat().st_size > max_bytes:
        if is_array:
            raise InputError(too_large("array", max_bytes, ".[]"))
        return None
    text = path.read_bytes().removeprefix(BOM_UTF8)
    try:
        return JsonArray(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        check_values(_lenient_json(text), "value {} of the array")
        if is_array:
            raise InputError(
                f"the JSON array is broken at line {error.lineno}, column {error.colno}:"
                f" {error.msg}. If each line is a prompt, add --lines"
            ) from None
    return None


def too_large(what: str, max_bytes: int, query: str) -> str:
    """Returns the refusal of a JSON document. `query` is for jq, and yields its requests."""
    return (
        f"a JSON {what} must have at most {max_bytes // 2**20} MB. Write one request on each line:"
        f" jq -c '{query}' FILE | orchestrator submit -"
    )


def _json_objects(head: bytes) -> JsonObjects | None:
    first = _json(head.lstrip().splitlines()[0])
    if isinstance(first, dict):
        return JsonObjects(first)
    # The first line of an object that has several lines is `{`, or `{` and the first field's name.
    return JsonObjects(None) if re.match(rb'\s*\{\s*("|\})', head) else None


def _are_strings(path: Path) -> bool:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(BOM_UTF8).strip()
            if text and not isinstance(_json(text), str):
                if isinstance(found := _lenient_json(text), str):
                    check_values([found], f"line {number}")
                return False
    return True


def check_values(values: object, place: str) -> None:
    """Raises InputError if a value of a list contains what JSON and UTF-8 do not allow.

    place: names the value in the message; `{}` is its number.
    """
    for number, value in enumerate(values if isinstance(values, list) else (), 1):
        if _json(json.dumps(value).encode()) is None and value is not None:
            raise InputError(
                f"{place.format(number)} contains what JSON does not allow: half of a surrogate"
                " pair, such as \\ud800, or NaN or Infinity"
            )


def _lenient_json(text: bytes) -> object:
    """Returns the JSON value, which may contain halves of surrogate pairs and NaN, or None."""
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError):
        return None


def _named_table(text: str, delimiter: str) -> Table:
    first = text.partition("\n")[0]
    if not delimiter:
        delimiter = max(",", ";", "\t", key=first.count)
    rows = _rows(text, delimiter, is_complete=False)
    return Table(delimiter, rows[0] if rows else [])


def _rows(text: str, delimiter: str, *, is_complete: bool) -> list[list[str]]:
    """Returns the first rows; none if the text is not a table with this delimiter."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    try:
        rows.extend(row for row in islice(reader, COMPARED_ROWS) if row)
    except csv.Error:
        return []
    if not is_complete and len(rows) < COMPARED_ROWS:
        rows.pop()  # the last row may be incomplete
    return rows


def _is_table(rows: list[list[str]]) -> bool:
    minimum = 2
    if len(rows) < minimum or len(rows[0]) < minimum:
        return False
    return (
        {len(row) for row in rows} == {len(rows[0])}
        and len(set(rows[0])) == len(rows[0])
        and all(_COLUMN.fullmatch(column) for column in rows[0])
    )


def _json(text: bytes) -> object:
    """Returns the JSON value, or None if the text is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
