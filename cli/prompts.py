"""What `orchestrator submit` reads: a JSON batch, NDJSON of requests, or plain prompts."""

import sys
import tempfile
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson

OPTIONS = {"deadline_s", "webhook_url"}
BATCH_BYTES = 64 * 1024 * 1024  # a JSON batch is read as a whole


class InputError(Exception):
    """The input is no requests; the text says where."""


class WrongArguments(InputError):
    """Whatever the input is."""


class Requests:
    """The lines to upload, read anew at each iteration; with how many each provider has, and what
    else a JSON batch says of its job."""

    def __init__(self, lines: "Lines", options: Mapping[str, Any] | None = None) -> None:
        self._lines = lines
        self.options = options or {}
        self.by_provider: Counter[str] = Counter()
        for number, line in enumerate(lines, 1):
            if line:
                self.by_provider[_provider(line, number)] += 1
        if not self.by_provider:
            raise InputError("there are no requests")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._lines)


Lines = Iterable[bytes]


class _File:
    """Its lines, the empty ones too: errors are told by their numbers. Editors of Windows begin a
    file with a mark."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            for number, line in enumerate(file):
                yield (line if number else line.removeprefix(BOM_UTF8)).strip()


class _Prompts:
    """A request for each line."""

    def __init__(self, path: Path, request: dict[str, Any], system: str | None) -> None:
        self._lines = _File(path)
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
    """`file`: a path, or - for standard input; that and what else is no file can be read only once
    and is kept in one until the process ends. With a provider and a model, its lines are prompts.
    Raises InputError, OSError."""
    path = Path(file)
    if file == "-":
        path = _spooled(sys.stdin.buffer)
    elif not path.is_file():
        with path.open("rb") as stream:
            path = _spooled(stream)
    if provider or model:
        if not (provider and model):
            raise WrongArguments("plain prompts want both --provider and --model")
        return Requests(_Prompts(path, {"provider": provider, "model": model}, system))
    if system:
        raise WrongArguments("--system goes with --provider and --model")
    return _batch(path) or Requests(_File(path))


def _batch(path: Path) -> Requests | None:
    """None: it is no JSON batch."""
    if path.stat().st_size > BATCH_BYTES:
        return None
    with suppress(orjson.JSONDecodeError):
        document = orjson.loads(path.read_bytes().removeprefix(BOM_UTF8))
        if isinstance(document, dict) and isinstance(document.get("requests"), list):
            requests = document.pop("requests")
            if unknown := document.keys() - OPTIONS:
                raise InputError(f"a batch has no {', '.join(sorted(unknown))}")
            return Requests([orjson.dumps(request) for request in requests], document)
    return None


def _provider(line: bytes, number: int) -> str:
    try:
        provider = orjson.loads(line)["provider"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise InputError(
            f"line {number} is no JSON object with a provider;"
            " for plain prompts, say --provider and --model"
        ) from None
    return str(provider)


def _spooled(stream: IO[bytes]) -> Path:
    spool = tempfile.NamedTemporaryFile(prefix="orchestrator-")  # noqa: SIM115 — lives on below
    for piece in iter(lambda: stream.read(1024 * 1024), b""):
        spool.write(piece)
    spool.flush()
    _SPOOLS.append(spool)
    return Path(spool.name)


_SPOOLS: list[Any] = []  # deleted when the process ends
