"""Describes a job as a batch of OpenAI's API, and reads the description from Redis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from shared.jobs.batch_details import BatchDetails, parse_batch_details
from shared.jobs.job_usage import JobUsage
from shared.jobs.snapshot import Snapshot

_KINDS = ("output", "errors")
# `parse_batch` gets these fields of Keys.job in this order.
FIELDS = [
    "owner",
    "accepted_ms",
    "batch",
    "batch_errors",
    "usage",
    "deleted_files",
    "result_ttl_s",
    *(f"{kind}_bytes" for kind in _KINDS),
]


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """Describes a job, or a batch that was rejected because of the mistakes in its file.

    details: None if the job was not created as a batch.
    snapshot: None if the batch was rejected.
    errors: the mistakes in the file of a rejected batch; empty for other batches.
    usage: None if the batch was rejected, and before `BatchStore.sum_usage`.
    """

    job_id: str
    accepted_ms: float
    details: BatchDetails | None
    snapshot: Snapshot | None
    errors: Sequence[dict[str, Any]]
    usage: JobUsage | None
    deleted_files: frozenset[str]  # kinds of result files that the owner has deleted
    file_bytes: Mapping[str, int]  # kind of result file → its size, if the size is known
    result_ttl_s: int | None  # time from the job's end to its expiry; None if rejected
    has_calls: bool = False  # whether calls of the batch still run although it was cancelled

    def with_usage(self, usage: JobUsage) -> "BatchRecord":
        return replace(self, usage=usage)


def parse_batch(
    job_id: str, owner: str, fields: Sequence[bytes | None], snapshot: Snapshot | None
) -> BatchRecord | None:
    """Returns the batch, or None if it has expired or belongs to another owner."""
    stored_owner, accepted_ms, details, errors, usage, deleted, ttl_s, *sizes = fields
    if stored_owner != owner.encode() or not accepted_ms or not (snapshot or errors):
        return None
    return BatchRecord(
        job_id=job_id,
        accepted_ms=float(accepted_ms),
        details=parse_batch_details(details) if details else None,
        snapshot=snapshot,
        errors=orjson.loads(errors) if errors else (),
        usage=JobUsage(**orjson.loads(usage)) if usage else None,
        deleted_files=frozenset(deleted.decode().split() if deleted else ()),
        file_bytes={kind: int(size) for kind, size in zip(_KINDS, sizes, strict=True) if size},
        result_ttl_s=int(ttl_s) if ttl_s else None,
    )
