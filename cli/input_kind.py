"""Recognises the kind of an input of `orchestrator submit`.

The file name extension decides, such as `.csv`. Otherwise, the content decides.
"""

import json
import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path

import orjson

from cli.input_errors import InputError
from cli.input_table import Table, find_table, named_table

HEAD_BYTES = 256 * 1024  # size of the part of a file that is read to recognise its format

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
_OBJECT_START = re.compile(rb"\s*\{\s*([\"'}]|$)")


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


def recognise(path: Path, name: str, batch_bytes: int, field: str | None = None) -> InputKind:
    """Returns the kind of the file's content.

    Raises OSError. Raises InputError if the file has no requests, is not UTF-8 text, has a value
    that JSON does not allow, or is probably a table or JSON that cannot be read. Without this
    error, each line of such a file would be sent as a prompt, and the user would pay for it.

    name: the name that the user gave. If the name ends in .csv, .tsv or .tab, the input is a table.
    batch_bytes: limit of the size of a JSON array.
    field: the field or the column that has the prompts, if the user named it.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head.removeprefix(BOM_UTF8).strip() and len(head) < HEAD_BYTES:
        raise InputError("the input has no requests")
    _refuse_binary(head)
    check_encoding(path)
    named = {".csv": "", ".tsv": "\t", ".tab": "\t"}.get(Path(name).suffix.lower())
    if named is not None:
        return named_table(path, named)
    head = head.removeprefix(BOM_UTF8)
    match head.lstrip()[:1]:
        case b"{" if (objects := _json_objects(path, head)) is not None:
            return objects
        case b"[" if (array := _json_array(path, head, batch_bytes)) is not None:
            return array
    if (table := find_table(path, field)) is not None:
        return table
    return JsonStrings() if _are_strings(path) else PlainText()


def check_encoding(path: Path) -> None:
    """Raises InputError if the file is not UTF-8 text."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                raise InputError(
                    f"line {number} is not UTF-8 text. Convert it first:"
                    " iconv -f WINDOWS-1252 -t UTF-8 FILE > FILE.utf8"
                ) from None


def _refuse_binary(head: bytes) -> None:
    for signature, what, advice in _BINARY:
        if head.startswith(signature):
            raise InputError(f"the input is {what}. Convert it first: {advice}")
    if b"\0" in head:
        raise InputError("the input is not text: it contains zero bytes")


def _json_array(path: Path, head: bytes, max_bytes: int) -> JsonArray | None:
    """Returns the array, or None if the file is text that begins with a bracket.

    Raises InputError if the array is not valid JSON, or larger than `max_bytes`. Without
    this error, each line of the file would be sent as a prompt.
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
    """Returns a message that says that a JSON document is too large, and what to do.

    what: kind of the document: an array or a batch.
    query: filter for jq that yields the requests of the document.
    """
    return (
        f"a JSON {what} must have at most {max_bytes // 2**20} MB. Write one request on each line:"
        f" jq -c '{query}' FILE | orchestrator submit -"
    )


def _json_objects(path: Path, head: bytes) -> JsonObjects | None:
    with path.open("rb") as file:
        lines = (line.removeprefix(BOM_UTF8).strip() for line in file)
        first = _json(next(filter(None, lines)))
    if isinstance(first, dict):
        return JsonObjects(first)
    # The first line of an object that has several lines is `{`, or `{` and the first field's name.
    return JsonObjects(None) if _OBJECT_START.match(head) else None


def _are_strings(path: Path) -> bool:
    """Returns whether each line is a JSON string. Empty lines are ignored.

    Raises InputError if the first line is a JSON string and a later line is not. If all these lines
    were sent as plain text, the quotes of the strings would be part of the prompts.
    """
    strings = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(BOM_UTF8).strip()
            if not text:
                continue
            if isinstance(_json(text), str):
                strings += 1
                continue
            if isinstance(found := _lenient_json(text), str):
                check_values([found], f"line {number}")
            if strings:
                raise InputError(
                    f"the lines before line {number} are JSON strings, but line {number} is not."
                    " If each line is a prompt, add --lines"
                )
            return False
    return True


def check_values(values: object, place: str) -> None:
    """Raises InputError if a value of a list contains what JSON and UTF-8 do not allow.

    values: the list; any other value is not checked.
    place: name of the value in the message, in which its number, from 1, replaces `{}`.
    """
    for number, value in enumerate(values if isinstance(values, list) else (), 1):
        if _json(json.dumps(value).encode()) is None and value is not None:
            raise InputError(
                f"{place.format(number)} contains what JSON does not allow: half of a surrogate"
                " pair, such as \\ud800, or NaN or Infinity"
            )


def _lenient_json(text: bytes) -> object:
    """Returns the JSON value, or None if the text is not JSON.

    Unlike `_json`, accepts halves of surrogate pairs, NaN and Infinity.
    """
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError):
        return None


def _json(text: bytes) -> object:
    """Returns the JSON value, or None if the text is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
