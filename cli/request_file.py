"""Reads the input of `orchestrator submit`: requests in any format, or prompts."""

import json
import re
import sys
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import IO, Any

from cli.input_errors import InputError, WrongArguments
from cli.input_kind import (
    InputKind,
    JsonArray,
    JsonObjects,
    PlainText,
    check_encoding,
    check_values,
    recognise,
    too_large,
)
from cli.input_table import Table
from cli.prompts import PromptRequest, Prompts

OPTIONS = {"deadline_s", "webhook_url"}  # fields that a JSON batch may have beside `requests`
# A JSON batch has a limit, because it is read completely into memory. NDJSON has no limit.
BATCH_BYTES = 64 * 1024 * 1024
_BATCH_START = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*"requests"\s*:')
# An object with one of these fields is a request, whose format the API recognises.
REQUEST_FIELDS = {"provider", "messages", "input", "contents", "params", "request", "body"}
PROMPT_FIELDS = ("prompt", "text", "question", "query", "instruction", "content")


@dataclass(frozen=True, slots=True)
class InputOptions:
    """Holds the options of `orchestrator submit` that say how the input is read."""

    provider: str | None = None
    model: str | None = None
    format: str | None = None
    system: str | None = None
    field: str | None = None
    id_field: str | None = None
    lines: bool = False


class Requests:
    """Holds the options of the job, and yields the lines to upload each time it is iterated."""

    def __init__(self, lines: Iterable[bytes], options: Mapping[str, Any] | None = None) -> None:
        """Raises InputError if a prompt cannot be read, or if there are no requests."""
        self._lines = lines
        self.are_prompts = isinstance(lines, Prompts)
        self.options = options or {}
        if not sum(1 for line in lines if line):
            raise InputError("the input has no requests")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._lines)


class _Lines:
    """Yields the lines of a file without the byte order mark and the white space around each line.

    Also yields empty lines, because the API's errors contain line numbers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            for number, line in enumerate(file):
                yield (line if number else line.removeprefix(BOM_UTF8)).strip()


def read_requests(file: str, given: InputOptions) -> Requests:
    """Returns the requests in a file, or in stdin if `file` is `-`. Raises InputError, OSError.

    Copies stdin or a pipe to a temporary file, because these can be read only once.
    """
    path = Path(file)
    if file == "-":
        path = _copy(sys.stdin.buffer)
    elif not path.is_file():
        with path.open("rb") as stream:
            path = _copy(stream)
    if given.lines:
        check_encoding(path)
        kind: InputKind = PlainText()
    else:
        kind = recognise(path, file, BATCH_BYTES, given.field)
    if isinstance(kind, JsonObjects | JsonArray) and not given.field and _has_requests(kind):
        return _requests(path, kind, given)
    if given.format:
        raise WrongArguments("--format is for requests in JSON; the input has prompts")
    return Requests(Prompts(path, kind, _prompt_request(kind, given)))


def _has_requests(kind: JsonObjects | JsonArray) -> bool:
    """Returns whether the values are requests rather than prompts. Checks only the first value.

    Raises WrongArguments if the first value is an object that is not a request, but has texts.
    """
    first = kind.values[0] if isinstance(kind, JsonArray) and kind.values else None
    if isinstance(kind, JsonObjects):
        first = kind.first
    if isinstance(first, str):
        return False
    if isinstance(first, dict) and not first.keys() & {*REQUEST_FIELDS, "requests"}:
        texts = [name for name, value in first.items() if isinstance(value, str)]
        if texts:
            raise WrongArguments(
                f"the first object has the fields {_listed(texts)}, but is not a request. To send"
                f" a field as the prompt, add --field {quote(_likely(texts))}, --provider and"
                " --model"
            )
    return True


def _requests(path: Path, kind: JsonObjects | JsonArray, given: InputOptions) -> Requests:
    if given.system or given.id_field:
        raise WrongArguments(
            "--system and --id-field are for prompts; the input has requests in JSON"
        )
    if isinstance(kind, JsonArray):
        return Requests(
            [_line(value) for value in json.loads(path.read_bytes().decode("utf-8-sig"))]
        )
    return _read_batch(path) or Requests(_Lines(path))


def _prompt_request(kind: InputKind, given: InputOptions) -> PromptRequest:
    """Returns what the requests of all prompts have in common.

    Raises WrongArguments if an option is missing, or does not fit the input. Raises InputError if
    two columns have the name of an option.
    """
    match kind:
        case Table(columns=columns) if given.field not in columns or not given.field:
            found = f"no column {given.field!r}; it" if given.field else "the columns"
            raise WrongArguments(
                f"the input is {kind.name} with {found}{' has' if given.field else ''}"
                f" {_listed(columns)}. Add --field {quote(_likely(columns))} to send that column's"
                " text as prompts. If each line is a prompt, add --lines"
            )
        case Table(columns=columns):
            _check_columns(columns, {given.field, given.id_field} - {None})
    option = "--field" if given.field else "--id-field" if given.id_field else ""
    if option and not _has_fields(kind):
        raise WrongArguments(f"{option} is for tables and JSON objects; the input has neither")
    if not (given.provider or given.model) and given.system:
        raise WrongArguments("--system needs --provider and --model")
    if not (given.provider and given.model):
        what = "plain-text prompts" if isinstance(kind, PlainText) else "prompts"
        raise WrongArguments(f"{what} need --provider and --model")
    return PromptRequest(given.provider, given.model, given.system, given.field, given.id_field)


def _has_fields(kind: InputKind) -> bool:
    if isinstance(kind, JsonArray):
        return any(isinstance(value, dict) for value in kind.values)
    return isinstance(kind, Table | JsonObjects)


def _check_columns(columns: list[str], used: set[str | None]) -> None:
    for name in used:
        if name not in columns:
            raise WrongArguments(f"the table has no column {name!r}; it has {_listed(columns)}")
        if columns.count(str(name)) > 1:
            raise InputError(f"two columns have the name {name!r}. Rename one of them")


def _likely(names: list[str]) -> str:
    """Returns the field that probably has the prompts by its name, or else the last field."""
    likely = {name for name in names if name.lower().rstrip("s") in PROMPT_FIELDS}
    return next((name for name in names if name in likely), names[-1] if names else "COLUMN")


def _listed(names: list[str]) -> str:
    limit = 12
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


def _read_batch(path: Path) -> Requests | None:
    """Returns the requests of a JSON batch, or None if the file is not a JSON batch.

    Raises InputError if the batch is larger than BATCH_BYTES, has unknown fields, or has values
    that JSON does not allow.
    """
    if path.stat().st_size > BATCH_BYTES:
        with path.open("rb") as file:
            if _BATCH_START.match(file.read(1024)):
                raise InputError(too_large("batch", BATCH_BYTES, ".requests[]"))
        return None
    with suppress(ValueError, RecursionError):
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
        if isinstance(document, dict) and isinstance(document.get("requests"), list):
            requests = document.pop("requests")
            if unknown := document.keys() - OPTIONS:
                raise InputError(f"the batch has unknown fields: {', '.join(sorted(unknown))}")
            check_values(requests, "request {} of the batch")
            return Requests([_line(request) for request in requests], document)
    return None


def _line(request: object) -> bytes:
    """Returns the request as JSON. orjson would refuse integers of more than 64 bits."""
    return json.dumps(request, separators=(",", ":")).encode()


def _copy(stream: IO[bytes]) -> Path:
    copy = tempfile.NamedTemporaryFile(prefix="orchestrator-")  # noqa: SIM115 — kept in _COPIES
    for chunk in iter(lambda: stream.read(1024 * 1024), b""):
        copy.write(chunk)
    copy.flush()
    _COPIES.append(copy)
    return Path(copy.name)


_COPIES: list[Any] = []  # temporary files, which are deleted when the process exits
