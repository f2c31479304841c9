"""Describes a stored file, and reads the description from Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

# `parse_file` gets these fields of Keys.file in this order.
FIELDS = ["owner", "created_ms", "expires_ms", "blocks", "info", "used_by"]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """Describes a file.

    size: bytes of the file as the client sent them.
    requests: number of requests in a file of requests.
    model: `<provider>/<model>` of all requests; None if the requests differ in it.
    mistakes: the first mistakes in the requests, as objects of JSON.
    """

    filename: str
    purpose: str
    size: int
    requests: int = 0
    model: str | None = None
    mistakes: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class StoredFile:
    id: str
    created_ms: float
    expires_ms: float
    blocks: int
    info: FileInfo
    used_by: str | None  # '<digest> <job>' of the last batch: see lua/lib/file_use.lua


def parse_file(file_id: str, fields: Sequence[bytes | None], owner: str) -> StoredFile | None:
    """Returns the file, or None if it has expired or belongs to another owner."""
    stored_owner, created_ms, expires_ms, blocks, info, used_by = fields
    if stored_owner != owner.encode() or not (created_ms and expires_ms and blocks and info):
        return None
    return StoredFile(
        id=file_id,
        created_ms=float(created_ms),
        expires_ms=float(expires_ms),
        blocks=int(blocks),
        info=FileInfo(**orjson.loads(info)),
        used_by=used_by.decode() if used_by else None,
    )
