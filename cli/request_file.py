"""Reads what `orchestrator submit` sends: a JSON batch, NDJSON of requests, or prompts."""

import sys
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson

OPTIONS = {"deadline_s", "webhook_url"}  # fields of a JSON batch beside its requests
BATCH_BYTES = 64 * 1024 * 1024  # limit of a JSON batch, which is read whole; NDJSON has none


class InputError(Exception):
    """The input has no valid requests; the text says where."""


class WrongArguments(InputError):
    """The arguments are wrong, whatever the input is."""


class Requests:
    """Holds the options of a JSON batch, and yields the lines to upload, reading them each time."""

    def __init__(self, lines: Iterable[bytes], options: Mapping[str, Any] | None = None) -> None:
        """Raises InputError."""
        self._lines = lines
        self.options = options or {}
        is_empty = True
        for number, line in enumerate(lines, 1):
            if line:
                _check_request(line, number)
                is_empty = False
        if is_empty:
            raise InputError("there are no requests")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._lines)


class _Lines:
    """Yields the lines of a file, including empty ones, because errors name lines by number.

    Skips the byte order mark that editors on Windows put at the start of a file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            for number, line in enumerate(file):
                yield (line if number else line.removeprefix(BOM_UTF8)).strip()


class _Prompts:
    """Yields a request for each line of a file."""

    def __init__(self, path: Path, request: dict[str, Any], system: str | None) -> None:
        self._lines = _Lines(path)
        self._request = request
        self._first = [] if system is None else [{"role": "system", "content": system}]

    def __iter__(self) -> Iterator[bytes]:
        for prompt in self._lines:
            if not prompt:
                yield prompt
                continue
            try:
                text = prompt.decode()
            except UnicodeDecodeError:
                raise InputError("the prompts are not UTF-8") from None
            messages = [*self._first, {"role": "user", "content": text}]
            yield orjson.dumps({**self._request, "messages": messages})


def read_requests(
    file: str, *, provider: str | None, model: str | None, system: str | None
) -> Requests:
    """Reads a file, or standard input if `file` is `-`. Raises InputError, OSError.

    With `provider` and `model` each line is a prompt. What can be read only once, such as a pipe,
    is copied to a temporary file.
    """
    path = Path(file)
    if file == "-":
        path = _copy(sys.stdin.buffer)
    elif not path.is_file():
        with path.open("rb") as stream:
            path = _copy(stream)
    if provider or model:
        if not (provider and model):
            raise WrongArguments("plain-text prompts need --provider and --model")
        return Requests(_Prompts(path, {"provider": provider, "model": model}, system))
    if system:
        raise WrongArguments("--system needs --provider and --model")
    return _read_batch(path) or Requests(_Lines(path))


def _read_batch(path: Path) -> Requests | None:
    """Returns None if the file is not a JSON batch."""
    if path.stat().st_size > BATCH_BYTES:
        return None
    with suppress(orjson.JSONDecodeError):
        document = orjson.loads(path.read_bytes().removeprefix(BOM_UTF8))
        if isinstance(document, dict) and isinstance(document.get("requests"), list):
            requests = document.pop("requests")
            if unknown := document.keys() - OPTIONS:
                raise InputError(f"unknown field of a batch: {', '.join(sorted(unknown))}")
            return Requests([orjson.dumps(request) for request in requests], document)
    return None


def _check_request(line: bytes, number: int) -> None:
    try:
        orjson.loads(line)["provider"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise InputError(
            f'line {number} is not a JSON request (no "provider" field);'
            " plain-text prompts need --provider and --model"
        ) from None


def _copy(stream: IO[bytes]) -> Path:
    copy = tempfile.NamedTemporaryFile(prefix="orchestrator-")  # noqa: SIM115 — lives on below
    for chunk in iter(lambda: stream.read(1024 * 1024), b""):
        copy.write(chunk)
    copy.flush()
    _COPIES.append(copy)
    return Path(copy.name)


_COPIES: list[Any] = []  # deleted when the process ends
