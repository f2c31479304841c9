"""A job as clients see it: made from a batch, read back as its status."""

from datetime import UTC, datetime
from math import fsum
from uuid import uuid4

import orjson
from arq.jobs import serialize_job
from arq.utils import timestamp_ms

from shared.models import (
    BatchLLMRequest,
    BatchLLMResponse,
    ChatRequest,
    JobState,
    JobStatus,
    LLMRequest,
    LLMResponse,
)
from shared.queue import Queue, Snapshot
from shared.results import Result

TASK = "call_provider"  # the arq function that runs an item


class JobNotFound(Exception):
    """No job has this id, or its results have expired."""


class Jobs:
    def __init__(self, queue: Queue, *, ttl_s: int, max_queue_depth: int) -> None:
        self._queue = queue
        self._ttl_s = ttl_s
        self._max_queue_depth = max_queue_depth

    @staticmethod
    def new_id() -> str:
        return uuid4().hex

    async def submit(self, job_id: str, batch: BatchLLMRequest) -> None:
        """All or nothing; the same id twice is one job. Raises LaneFull, RedisError."""
        await self._queue.accept(
            job_id,
            [(request.provider, _payload(request)) for request in batch.requests],
            meta=orjson.dumps([(r.request_id, r.provider, r.model) for r in batch.requests]),
            ttl_s=self._ttl_s,
            max_depth=self._max_queue_depth,
        )

    async def status(self, job_id: str) -> JobStatus:
        """Raises JobNotFound, RedisError."""
        snapshot = await self._queue.snapshot(job_id)
        if snapshot is None:
            raise JobNotFound(job_id)
        return _status(job_id, snapshot)

    async def cancel(self, job_id: str) -> JobStatus:
        """Raises JobNotFound, RedisError."""
        await self._queue.cancel(job_id)
        return await self.status(job_id)


def finished_batch(status: JobStatus) -> BatchLLMResponse | None:
    """None while an item of it has not ended."""
    if status.total_latency_ms is None or status.average_latency_ms is None:
        return None
    return BatchLLMResponse(
        job_id=status.job_id,
        responses=[response for response in status.responses if response is not None],
        total_requests=status.total_requests,
        successful=status.successful,
        failed=status.failed,
        total_latency_ms=status.total_latency_ms,
        average_latency_ms=status.average_latency_ms,
    )


def _payload(request: LLMRequest) -> bytes:
    chat = ChatRequest(
        provider=request.provider,
        model=request.model,
        messages=[{"role": m.role, "content": m.content} for m in request.messages],
        temperature=request.temperature,
        max_tokens=request.max_tokens,
    )
    return serialize_job(TASK, (chat,), {}, None, timestamp_ms(), serializer=orjson.dumps)


def _status(job_id: str, snapshot: Snapshot) -> JobStatus:
    fields = snapshot.fields
    meta: list[tuple[str | None, str, str]] = orjson.loads(fields["meta"])
    total = len(meta)
    responses: list[LLMResponse | None] = [None] * total
    successful, latencies_ms = 0, list[float]()
    for index, (ended_ms, data) in snapshot.results.items():
        result = Result.from_json(data)
        successful += result.error is None
        latencies_ms.append(result.latency_ms)
        request_id, provider, model = meta[index]
        responses[index] = LLMResponse(
            request_id=request_id,
            provider=provider,
            model=model,
            timestamp=_time(ended_ms),
            **result.to_dict(),
        )
    ended = len(snapshot.results)
    accepted_ms, started_ms, finished_ms = (
        float(fields[name]) if name in fields else None
        for name in ("accepted_ms", "started_ms", "finished_ms")
    )
    assert accepted_ms is not None  # noqa: S101 — accept.lua writes it with the job
    return JobStatus(
        job_id=job_id,
        status=_state(fields),
        total_requests=total,
        queued=total - ended - snapshot.running,
        running=snapshot.running,
        successful=successful,
        failed=ended - successful,
        accepted_at=_time(accepted_ms),
        started_at=_time(started_ms) if started_ms else None,
        finished_at=_time(finished_ms) if finished_ms else None,
        responses=responses,
        total_latency_ms=round(finished_ms - accepted_ms, 3) if finished_ms else None,
        # Redis may give the results in another order next time: the sum must not depend on it.
        average_latency_ms=round(fsum(latencies_ms) / total, 3) if finished_ms else None,
    )


def _state(fields: dict[str, bytes]) -> JobState:
    if "cancelled_ms" in fields:
        return JobState.CANCELLED
    if "finished_ms" in fields:
        return JobState.COMPLETED
    return JobState.RUNNING if "started_ms" in fields else JobState.QUEUED


def _time(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
