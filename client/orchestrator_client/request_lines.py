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
MEMORY_BYTES = 16 * 1024 * 1024  # for the lines of an iterator; more are kept in a file

Request = Mapping[str, Any] | BaseModel | bytes
"""A native request as a mapping or a pydantic model, or as one line of JSON."""


class ReplayableLines:
    """Keeps the lines of an iterator, so that an upload that broke can be sent again."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests = requests
        self._file = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 — lives as long as this object
        finalize(self, self._file.close)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        yield from self._file
        for request in self._requests:
            line = to_line(request)
            self._file.write(line + b"\n")
            yield line

    def read_all(self) -> None:
        for _ in self:
            pass


def to_line(request: Request) -> bytes:
    """Returns the request as compact JSON without a line feed. Raises TypeError."""
    if isinstance(request, bytes):
        return request.strip()
    if isinstance(request, BaseModel):
        return request.model_dump_json(exclude_defaults=True).encode()
    if isinstance(request, Mapping):
        return json.dumps(dict(request), separators=(",", ":"), ensure_ascii=False).encode()
    raise TypeError(
        "a request is a dict, a pydantic model or a line of JSON as bytes,"
        f" not {type(request).__name__}; submit and batch take a list of requests"
    )


async def upload_chunks(requests: Iterable[Request]) -> AsyncIterator[bytes]:
    """Yields the requests as NDJSON in chunks of at least `CHUNK_BYTES`, but for the last."""
    chunk = bytearray()
    for request in requests:
        chunk += to_line(request) + b"\n"
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
) -> str:
    """Returns a random key if `new`, else `key`, else one derived from requests and options.

    Requests are the same if they are the same JSON values in the same order: white space, escapes
    and the order of fields do not matter. The API compares keys among jobs of one owner only.
    """
    if new:
        return str(uuid4())
    if key:
        return key
    digest = sha256()
    for request in requests:
        if line := to_line(request):
            digest.update(_canonical(line) + b"\n")
    deadline_s = None if deadline_s is None else float(deadline_s)
    digest.update(json.dumps([deadline_s, webhook_url]).encode())
    return f"requests-{digest.hexdigest()}"


def _canonical(line: bytes) -> bytes:
    """Returns a line that is not JSON as it is: the API refuses it with its number."""
    try:
        return json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return line
