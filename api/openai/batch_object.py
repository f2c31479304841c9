"""Presents a job as a batch of OpenAI's API."""

from api.openai.batch_schemas import (
    Batch,
    BatchErrors,
    BatchStatus,
    BatchUsage,
    InputTokensDetails,
    OutputTokensDetails,
    RequestCounts,
)
from api.openai.result_files import ResultFileKind, existing_file_id, line_counts
from shared.jobs.batch_details import BatchDetails
from shared.jobs.batch_record import BatchRecord
from shared.jobs.job_usage import JobUsage
from shared.jobs.snapshot import Snapshot
from shared.models import JobStatus
from shared.queue.ids import batch_id

_EARLY_STATUSES: dict[str | None, BatchStatus] = {
    JobStatus.CANCELLED: "cancelled",
    JobStatus.DEADLINE_EXCEEDED: "expired",
}


def batch_object(batch: BatchRecord) -> Batch:
    snapshot, status = batch.snapshot, _status(batch)
    details = batch.details or _details(batch.job_id, snapshot)
    created_at = int(batch.accepted_ms / 1000)
    ended_at = _seconds(snapshot.finished_ms) if snapshot else created_at
    return Batch.model_construct(
        id=batch_id(batch.job_id),
        endpoint=details.endpoint,
        model=details.model,
        errors=BatchErrors.model_validate({"data": batch.errors}) if batch.errors else None,
        input_file_id=details.input_file_id,
        completion_window=details.completion_window,
        status=status,
        output_file_id=existing_file_id(batch, ResultFileKind.OUTPUT),
        error_file_id=existing_file_id(batch, ResultFileKind.ERRORS),
        created_at=created_at,
        in_progress_at=created_at if snapshot else None,
        expires_at=_seconds(snapshot.deadline_ms) if snapshot else None,
        finalizing_at=ended_at if status == "completed" else None,
        completed_at=ended_at if status == "completed" else None,
        failed_at=ended_at if status == "failed" else None,
        expired_at=ended_at if status == "expired" else None,
        cancelling_at=ended_at if status in {"cancelling", "cancelled"} else None,
        cancelled_at=ended_at if status == "cancelled" else None,
        request_counts=_request_counts(snapshot),
        usage=_usage(batch.usage) if batch.usage else None,
        metadata=dict(details.metadata) if details.metadata is not None else None,
    )


def _status(batch: BatchRecord) -> BatchStatus:
    if batch.snapshot is None:
        return "failed"
    if batch.snapshot.finished_ms is None:
        return "in_progress"
    if batch.has_calls:
        return "cancelling"
    return _EARLY_STATUSES.get(batch.snapshot.finished_early_as, "completed")


def _details(job_id: str, snapshot: Snapshot | None) -> BatchDetails:
    """Returns the options that are shown for a job that was not created as a batch."""
    window = "none"
    if snapshot and snapshot.deadline_ms:
        window = f"{round((snapshot.deadline_ms - snapshot.accepted_ms) / 1000)}s"
    return BatchDetails(
        endpoint="/v1/chat/completions",
        completion_window=window,
        input_file_id=f"file-{job_id}-input",
    )


def _request_counts(snapshot: Snapshot | None) -> RequestCounts:
    if snapshot is None:
        return RequestCounts(total=0, completed=0, failed=0)
    lines = line_counts(snapshot)
    return RequestCounts(
        total=snapshot.total,
        completed=lines[ResultFileKind.OUTPUT],
        failed=lines[ResultFileKind.ERRORS],
    )


def _usage(usage: JobUsage) -> BatchUsage:
    return BatchUsage(
        input_tokens=usage.input_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens),
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.reasoning_tokens),
        total_tokens=usage.input_tokens + usage.output_tokens,
    )


def _seconds(ms: float | None) -> int | None:
    return None if ms is None else int(ms / 1000)
