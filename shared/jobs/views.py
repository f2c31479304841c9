"""Converts snapshots and stored results to the models that clients see."""

from datetime import UTC, datetime
from typing import Any

from shared.jobs.snapshot import Snapshot
from shared.jobs.staging import Meta
from shared.models import (
    BatchLLMResponse,
    Job,
    JobStatus,
    JobSummary,
    LLMResponse,
    WebhookState,
    WebhookStatus,
)
from shared.providers.lanes import shown_lane
from shared.queue.item_results import CANCELLED, EARLY_RESULTS, parse_stored


def job(job_id: str, snapshot: Snapshot) -> Job:
    return Job(**_summary(job_id, snapshot), responses=_responses(snapshot))


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
    if stored is not None:
        finished_ms, result = parse_stored(stored)
    elif snapshot.finished_ms is not None and snapshot.finished_early_as:
        result = EARLY_RESULTS.get(snapshot.finished_early_as, CANCELLED).to_dict()
        finished_ms = snapshot.finished_ms
    else:
        return None
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


def finished_batch(ended: Job) -> BatchLLMResponse | None:
    """Returns the response of POST /batch, or None if the job has not ended."""
    if ended.total_latency_ms is None or ended.average_latency_ms is None:
        return None
    return BatchLLMResponse(
        job_id=ended.job_id,
        responses=[answer for answer in ended.responses or () if answer is not None],
        total_requests=ended.total_requests,
        successful=ended.successful,
        failed=ended.failed,
        total_latency_ms=ended.total_latency_ms,
        average_latency_ms=ended.average_latency_ms,
    )


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


def _responses(snapshot: Snapshot) -> list[LLMResponse | None] | None:
    if snapshot.metas is None or snapshot.results is None:
        return None
    return [
        response(meta, snapshot.results.get(index), snapshot)
        for index, meta in enumerate(snapshot.metas)
    ]


def _time(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
