"""Reads the input of `orchestrator submit`: a JSON batch, requests in NDJSON, or prompts."""

import sys
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson

OPTIONS = {"deadline_s", "webhook_url"}  # fields of a JSON batch in addition to its requests
# A JSON batch has a limit, because it is read completely into memory. NDJSON has no limit.
BATCH_BYTES = 64 * 1024 * 1024


class InputError(Exception):
    """The input is not valid. `str(error)` says why, and names the line."""


class WrongArguments(InputError):
    """The arguments are wrong, independent of the input."""


class Requests:
    """Yields the lines to upload, reading them again each time, and has the job's options."""

    def __init__(self, lines: Iterable[bytes], options: Mapping[str, Any] | None = None) -> None:
        """Raises InputError if a line is not a request, or if there are no requests."""
        self._lines = lines
        self.options = options or {}
        is_empty = True
        for number, line in enumerate(lines, 1):
            if line:
                _check_request(line, number)
                is_empty = False
        if is_empty:
            raise InputError("the input has no requests")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._lines)


class _Lines:
    """Yields the lines of a file, including empty lines, because errors contain line numbers.

    Skips the byte order mark that editors on Windows write at the start of a file.
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
    """Returns the requests in a file, or in stdin if `file` is `-`. Raises InputError, OSError.

    If `provider` and `model` are given, each line is a prompt. A pipe can be read only once, so its
    content is copied to a temporary file.
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
    """Returns the requests of a JSON batch, or None if the file is not a JSON batch."""
    if path.stat().st_size > BATCH_BYTES:
        return None
    with suppress(orjson.JSONDecodeError):
        document = orjson.loads(path.read_bytes().removeprefix(BOM_UTF8))
        if isinstance(document, dict) and isinstance(document.get("requests"), list):
            requests = document.pop("requests")
            if unknown := document.keys() - OPTIONS:
                raise InputError(f"the batch has unknown fields: {', '.join(sorted(unknown))}")
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
    copy = tempfile.NamedTemporaryFile(prefix="orchestrator-")  # noqa: SIM115 — kept in _COPIES
    for chunk in iter(lambda: stream.read(1024 * 1024), b""):
        copy.write(chunk)
    copy.flush()
    _COPIES.append(copy)
    return Path(copy.name)


_COPIES: list[Any] = []  # temporary files, which are deleted when the process exits
