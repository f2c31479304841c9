"""Converts snapshots and stored results to the models that clients see."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from shared.jobs.snapshot import Snapshot
from shared.jobs.staging import Meta
from shared.models import (
    JobStatus,
    JobSummary,
    LLMResponse,
    WebhookState,
    WebhookStatus,
)
from shared.models.responses import OPTIONAL_FIELDS, dump_response
from shared.providers.lanes import shown_lane
from shared.queue.item_results import CANCELLED, EARLY_RESULTS, parse_stored
from shared.redis.clock import utc


@dataclass(frozen=True, slots=True)
class StoredJob:
    """Holds the id and the snapshot of a job. The snapshot has results only if they are small."""

    job_id: str
    snapshot: Snapshot

    @property
    def has_ended(self) -> bool:
        return self.snapshot.finished_ms is not None


def job_summary(job_id: str, snapshot: Snapshot) -> JobSummary:
    return JobSummary(**_summary(job_id, snapshot))


def job_status(snapshot: Snapshot) -> JobStatus:
    if snapshot.finished_early_as:
        return JobStatus(snapshot.finished_early_as)
    if snapshot.finished_ms is not None:
        return JobStatus.COMPLETED
    return JobStatus.RUNNING if snapshot.started_ms is not None else JobStatus.QUEUED


def response(meta: Meta, stored: bytes | None, snapshot: Snapshot) -> LLMResponse | None:
    """Returns an item's response, or None if the item has not finished."""
    found = _result(stored, snapshot)
    if found is None:
        return None
    finished_ms, result = found
    request_id, lane, model, *metadata = meta
    served_provider, served_model = result.pop("served_provider"), result.pop("served_model")
    return LLMResponse(
        request_id=request_id,
        provider=served_provider or shown_lane(lane),
        model=served_model or model,
        timestamp=_time(finished_ms),
        metadata=metadata[0] if metadata else None,
        **result,
    )


def response_json(meta: Meta, stored: bytes | None, snapshot: Snapshot) -> bytes:
    """Returns an item's response as JSON, `null` if the item has not finished.

    The JSON equals the result of `LLMResponse.to_json`. No pydantic model is built, because this
    would take longer.
    """
    found = _result(stored, snapshot)
    if found is None:
        return b"null"
    finished_ms, result = found
    request_id, lane, model, *metadata = meta
    fields = {
        "request_id": request_id,
        "provider": result["served_provider"] or shown_lane(lane),
        "model": result["served_model"] or model,
        "content": result["content"],
        "prompt_tokens": result["prompt_tokens"],
        "completion_tokens": result["completion_tokens"],
        "total_tokens": result["total_tokens"],
        "latency_ms": float(result["latency_ms"]),
        "timestamp": _time(finished_ms),
        "error": result["error"],
        "error_code": result["error_code"],
        "attempts": result["attempts"],
        "finish_reason": result["finish_reason"],
        "cost_usd": result["cost_usd"],
        "queued_ms": float(result["queued_ms"]),
        "retried_ms": float(result["retried_ms"]),
    }
    if metadata:
        result["metadata"] = metadata[0]
    for name in OPTIONAL_FIELDS:
        if (value := result.get(name)) is not None:
            fields[name] = value
    return dump_response(fields)


def job_json(job: StoredJob) -> tuple[bytes, bytes]:
    """Returns a job's JSON in two parts: before and after the value of `responses`."""
    summary = job_summary(job.job_id, job.snapshot).model_dump_json()
    return f'{summary[:-1]},"responses":'.encode(), b"}"


def batch_json(job: StoredJob) -> tuple[bytes, bytes]:
    """Returns an ended batch's JSON in two parts: before and after the value of `responses`."""
    summary = _summary(job.job_id, job.snapshot)
    before = orjson.dumps({"job_id": job.job_id})[:-1] + b',"responses":'
    return before, b"," + orjson.dumps({name: summary[name] for name in _BATCH_FIGURES})[1:]


_BATCH_FIGURES = (
    "total_requests",
    "successful",
    "failed",
    "total_latency_ms",
    "average_latency_ms",
)


def _result(stored: bytes | None, snapshot: Snapshot) -> tuple[float, dict[str, Any]] | None:
    """Returns the time at which an item finished, and the fields of its result.

    Returns None if the item has not finished.
    """
    if stored is not None:
        return parse_stored(stored)
    if snapshot.finished_ms is not None and snapshot.finished_early_as:
        early = EARLY_RESULTS.get(snapshot.finished_early_as, CANCELLED)
        return snapshot.finished_ms, early.to_dict()
    return None


def _summary(job_id: str, snapshot: Snapshot) -> dict[str, Any]:
    s, is_finished = snapshot, snapshot.finished_ms is not None
    successful = s.finished - s.failed
    return {
        "job_id": job_id,
        "owner": s.owner,
        "status": job_status(snapshot),
        "total_requests": s.total,
        "format": s.format,
        "providers": {shown_lane(lane): count for lane, count in s.items_by_lane.items()},
        "queued": 0 if is_finished else s.queued,
        "retrying": 0 if is_finished else s.parked,
        "running": 0 if is_finished else s.total - s.finished - s.queued,
        "successful": successful,
        "failed": s.total - successful if is_finished else s.failed,
        "cancelled": s.total - s.finished if s.finished_early_as == JobStatus.CANCELLED else 0,
        "accepted_at": _time(s.accepted_ms),
        "started_at": _time(s.started_ms) if s.started_ms else None,
        "finished_at": _time(s.finished_ms) if s.finished_ms else None,
        "deadline_at": _time(s.deadline_ms) if s.deadline_ms else None,
        "retry_of": s.retry_of,
        "retried_as": s.retried_as,
        "webhook": _webhook(snapshot),
        "total_latency_ms": round(max(0, s.finished_ms - s.accepted_ms), 3)
        if s.finished_ms
        else None,
        "average_latency_ms": round(s.latency_ms / s.total, 3) if is_finished else None,
    }


def _webhook(snapshot: Snapshot) -> WebhookStatus | None:
    url, delivery = snapshot.webhook_url, snapshot.delivery
    if url is None:
        return None
    if delivery is None or delivery.result is None:
        attempts = delivery.attempts if delivery else 0
        return WebhookStatus(url=url, status=WebhookState.WAITING, attempts=attempts, error=None)
    _, result = parse_stored(delivery.result)
    state = WebhookState.GIVEN_UP if result["error"] else WebhookState.DELIVERED
    return WebhookStatus(url=url, status=state, attempts=result["attempts"], error=result["error"])


def _time(ms: float) -> datetime:
    return utc(ms / 1000)
