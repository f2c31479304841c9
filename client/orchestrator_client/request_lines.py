"""Encodes requests as lines of JSON, and derives idempotency keys from them."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import Any
from uuid import uuid4
from weakref import finalize

from pydantic import BaseModel

CHUNK_BYTES = 64 * 1024
MEMORY_BYTES = 16 * 1024 * 1024  # limit of an iterator's lines in memory; more are kept in a file

Request = Mapping[str, Any] | BaseModel | bytes
"""One request: a mapping, a pydantic model, or a line of JSON as bytes."""


class ReplayableLines:
    """Keeps the lines of an iterator, so that a failed upload can be repeated."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests = requests
        self._file = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 — lives as long as this object
        finalize(self, self._file.close)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        yield from self._file
        for line in to_lines(self._requests):
            self._file.write(line + b"\n")
            yield line

    def read_all(self) -> None:
        for _ in self:
            pass


def to_line(request: Request) -> bytes:
    """Returns the request as one line of JSON without a line feed.

    Bytes are returned without the white space around them. A pydantic model is written without
    fields that have their default. Raises TypeError if the request has a type that `Request` does
    not allow, or contains a value that JSON does not have.
    """
    if isinstance(request, bytes):
        return request.strip()
    if isinstance(request, BaseModel):
        return request.model_dump_json(exclude_defaults=True).encode()
    if isinstance(request, Mapping):
        return json.dumps(dict(request), separators=(",", ":"), ensure_ascii=False).encode()
    raise TypeError(
        "a request must be a dict, a pydantic model or a line of JSON as bytes,"
        f" not {type(request).__name__}; submit and batch need a list of requests"
    )


def to_lines(requests: Iterable[Request]) -> Iterator[bytes]:
    """Yields the lines of the requests. Raises TypeError with the index of a wrong request."""
    for index, request in enumerate(requests):
        try:
            yield to_line(request)
        except TypeError as error:
            raise TypeError(f"the request with the index {index}: {error}") from None


async def upload_chunks(requests: Iterable[Request]) -> AsyncIterator[bytes]:
    """Yields the requests as NDJSON in chunks. Only the last may be shorter than CHUNK_BYTES."""
    chunk = bytearray()
    for line in to_lines(requests):
        chunk += line + b"\n"
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def choose_idempotency_key(
    requests: Iterable[Request],
    *,
    key: str | None,
    new: bool,
    deadline_s: float | None = None,
    webhook_url: str | None = None,
    provider: str | None = None,
    model: str | None = None,
    format: str | None = None,  # noqa: A002 — the API's name
) -> str:
    """Returns the idempotency key of a submission.

    If `new` is true, the key is random. Otherwise, the key is `key`, if given, or else is derived
    from the requests and the options: the same JSON values in the same order give the same key.
    White space, escapes and the order of fields do not matter. The API compares a key only with
    the keys of the same owner's jobs.
    """
    if new:
        return str(uuid4())
    if key:
        return key
    digest = sha256()
    for line in to_lines(requests):
        if line:
            digest.update(_canonical(line) + b"\n")
    deadline_s = None if deadline_s is None else float(deadline_s)
    options: list[object] = [deadline_s, webhook_url]
    if foreign := {
        name: value
        for name, value in (("provider", provider), ("model", model), ("format", format))
        if value is not None
    }:
        options.append(foreign)
    digest.update(json.dumps(options).encode())
    return f"requests-{digest.hexdigest()}"


def _canonical(line: bytes) -> bytes:
    """Returns the line in a form that depends only on its JSON value.

    A line that is not JSON is returned unchanged: the API refuses the line and names its number.
    """
    try:
        return json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return line
