"""Makes requests from prompts: lines of text, JSON strings, or a field of rows or JSON objects."""

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from cli.input_errors import InputError
from cli.input_kind import InputKind, JsonArray, JsonObjects, JsonStrings, PlainText
from cli.input_table import Table, read_rows

_Ids = dict[str, str]  # the place of each id, such as `line 3`


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """Holds what the requests of all prompts have in common, and makes a request from a prompt.

    field: name of the column or of the JSON field with the prompt.
    id_field: name of the column or of the JSON field that becomes the `request_id`.
    """

    provider: str
    model: str
    system: str | None = None
    field: str | None = None
    id_field: str | None = None

    def line(self, prompt: str, request_id: str | None) -> bytes:
        messages = [{"role": "user", "content": prompt}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        request: dict[str, Any] = {"provider": self.provider, "model": self.model}
        if request_id is not None:
            request["request_id"] = request_id
        return orjson.dumps({**request, "messages": messages})


@dataclass(frozen=True, slots=True)
class Prompts:
    """Yields a request as a line of JSON for each prompt of a file, each time it is iterated.

    An empty line of text is yielded as an empty line, because errors contain line numbers.
    """

    path: Path
    kind: InputKind
    request: PromptRequest

    def __iter__(self) -> Iterator[bytes]:
        """Yields the lines of JSON. Raises InputError if a prompt cannot be read."""
        ids: _Ids = {}
        match self.kind:
            case PlainText():
                for _, text in _lines(self.path):
                    yield self.request.line(text, None) if text else b""
            case JsonStrings():
                for number, text in _lines(self.path):
                    yield self.request.line(_string(text, number), None) if text else b""
            case Table():
                yield from self._rows(self.kind, ids)
            case JsonObjects():
                for number, text in _lines(self.path):
                    where = f"line {number}"
                    yield self._from_fields(_object(text, number), where, ids) if text else b""
            case JsonArray(values):
                for number, value in enumerate(values, 1):
                    yield self._from_value(value, f"value {number}", ids)

    def _rows(self, table: Table, ids: _Ids) -> Iterator[bytes]:
        rows = read_rows(self.path, table.delimiter, whole=True)
        next(rows)  # the names of the columns
        for number, row in enumerate(rows, 1):
            where = f"row {number} (line {row.line})"
            extra = row.values[len(table.columns) :]
            if any(value.strip() for value in extra):
                raise InputError(
                    f"{where} has {_count(row.values, 'value')}, but the table has"
                    f" {_count(table.columns, 'column')}. Put a text that contains"
                    f" {table.delimiter!r} in quotes"
                )
            fields = dict(zip(table.columns, row.values, strict=False))
            yield self._from_fields(fields, where, ids)

    def _from_value(self, value: object, where: str, ids: _Ids) -> bytes:
        if isinstance(value, str):
            if self.request.field or self.request.id_field:
                raise InputError(f"{where} is a string; --field and --id-field need objects")
            return self.request.line(value, None)
        if isinstance(value, dict):
            return self._from_fields(value, where, ids)
        raise InputError(f"{where} is neither a string nor an object")

    def _from_fields(self, fields: Mapping[str, Any], where: str, ids: _Ids) -> bytes:
        prompt = fields.get(self.request.field or "")
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError(f"{where} has no text in the field {self.request.field!r}")
        request_id = None
        if self.request.id_field is not None:
            value = fields.get(self.request.id_field)
            if not isinstance(value, str | int) or value == "":
                raise InputError(f"{where} has no id in the field {self.request.id_field!r}")
            request_id = str(value)
            if (earlier := ids.setdefault(request_id, where)) is not where:
                raise InputError(f"{where} has the same id {request_id!r} as {earlier}")
        return self.request.line(prompt, request_id)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the number and the text of each line.

    Skips the byte order mark that editors on Windows write at the start of a file.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(BOM_UTF8) if number == 1 else line
            yield number, text.decode().strip()


def _count(values: list[str], name: str) -> str:
    return f"{len(values)} {name}{'' if len(values) == 1 else 's'}"


def _string(text: str, number: int) -> str:
    value = orjson.loads(text)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"line {number} is an empty string")
    return value


def _object(text: str, number: int) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise InputError(
            f"line {number} is not a JSON object; --field needs one object on each line"
        )
    return value
