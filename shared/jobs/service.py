"""A job as clients see it: made from requests, read back as its status and its results."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

import orjson
import structlog
from arq.jobs import serialize_job
from arq.utils import timestamp_ms

from shared.jobs.store import Meta, Snapshot, Staging, Store, Submission
from shared.models import (
    MAX_BATCH_REQUESTS,
    BatchLLMResponse,
    ChatRequest,
    Job,
    JobStatus,
    JobSummary,
    LLMRequest,
    LLMResponse,
    WebhookState,
    WebhookStatus,
)
from shared.monitoring.tracing import NO_TRACER, Tracer
from shared.queue.results import CANCELLED, ENDED_AS, Result

TASK = "call_provider"  # the arq function that runs an item
WEBHOOK_TASK = "deliver_webhook"
READ_AT_ONCE = 50  # items: an answer may be large
LISTED_AT_ONCE = 20  # jobs
LOOKED_AT_MOST = 1000  # jobs that a filter looks at for one page

log = structlog.get_logger()


class JobNotFound(Exception):
    """The owner has no job of this id, or its results have expired."""


class NothingToRetry(Exception):
    """The text says why."""


class Jobs:
    """Of all owners; each call is for one of them. Raises RedisError, JobNotFound."""

    def __init__(self, store: Store, tracer: Tracer = NO_TRACER) -> None:
        self._store = store
        self._tracer = tracer

    @staticmethod
    def new_id() -> str:
        return uuid4().hex

    async def submit(
        self, job_id: str, requests: AsyncIterable[LLMRequest], submission: Submission
    ) -> str:
        """All or nothing; the same id twice is one job. Returns the id: of an earlier job if the
        submission has its key. Raises SubmissionRejected and what `requests` raises."""
        fingerprint = sha256(f"{submission.deadline_s} {submission.webhook}\n".encode())
        async with self._store.staging(job_id) as staging:
            index = -1
            async for request in requests:
                index += 1
                trace = self._tracer.item_span(job_id, index, request.provider, request.model)
                payload = _payload(request, trace)
                if submission.key:
                    # Without defaults: a later version has more fields.
                    fingerprint.update(
                        request.model_dump_json(exclude_defaults=True).encode() + b"\n"
                    )
                meta = (request.request_id, request.provider, request.model)
                await staging.add(request.provider, payload, meta)
            if submission.key:
                key = replace(submission.key, fingerprint=fingerprint.hexdigest())
                submission = replace(submission, key=key)
            if submission.webhook:
                webhook = _arq_job(WEBHOOK_TASK, job_id, submission.webhook, submission.owner)
                submission = replace(submission, webhook=webhook.decode())
            return await _commit(staging, submission)

    async def status(self, job_id: str, owner: str = "") -> Job:
        snapshot = await self._snapshot(job_id, owner, MAX_BATCH_REQUESTS)
        return Job(**_summary(job_id, snapshot), responses=_responses(snapshot))

    async def summary(self, job_id: str, owner: str = "") -> JobSummary:
        return JobSummary(**_summary(job_id, await self._snapshot(job_id, owner)))

    async def list_jobs(
        self, owner: str, state: JobStatus | None, before_us: int | None, most: int
    ) -> tuple[list[JobSummary], int | None]:
        """Returns the jobs and, if there may be more, before which they were accepted."""
        found: list[JobSummary] = []
        at_once, looked_at = max(most, LISTED_AT_ONCE), 0
        while looked_at < LOOKED_AT_MOST:
            page = await self._store.list_jobs(owner, before_us, at_once)
            for job_id, accepted_us, snapshot in page:
                looked_at += 1
                before_us = accepted_us
                if snapshot and state in {None, _state(snapshot)}:
                    found.append(JobSummary(**_summary(job_id, snapshot)))
                if len(found) == most:
                    return found, before_us
            if len(page) < at_once:
                return found, None
        return found, before_us

    async def cancel(self, job_id: str, owner: str = "") -> Job:
        if not _is_delivery(job_id):
            await self._store.cancel(job_id, owner)
        return await self.status(job_id, owner)

    async def retry(self, job_id: str, submission: Submission) -> str:
        """Makes a job of the items that failed, once; returns its id. Raises SubmissionRejected,
        NothingToRetry."""
        snapshot = await self._snapshot(job_id, submission.owner)
        if snapshot.retried_as:
            return snapshot.retried_as
        if snapshot.finished_ms is None:
            raise NothingToRetry("the job has not ended")
        indexes = await self._failed(job_id, snapshot)
        if not indexes:
            raise NothingToRetry("nothing has failed")
        async with self._store.staging(self.new_id()) as staging:
            for start in range(0, len(indexes), READ_AT_ONCE):
                part = indexes[start : start + READ_AT_ONCE]
                for meta, payload in await self._store.read_payloads(job_id, part):
                    if meta is None or payload is None:  # expired or retried meanwhile
                        await staging.discard()
                        return await self._retried_as(job_id, submission.owner)
                    await staging.add(meta[1], payload, meta)
            return await _commit(staging, replace(submission, retry_of=job_id))

    async def _failed(self, job_id: str, snapshot: Snapshot) -> list[int]:
        """What the end of the job has cut off included."""
        failed = await self._store.failed(job_id)
        if snapshot.ended_as:
            failed.update(await self._store.unfinished(job_id, snapshot))
        return sorted(failed)

    async def _retried_as(self, job_id: str, owner: str) -> str:
        snapshot = await self._snapshot(job_id, owner)
        if snapshot.retried_as is None:
            raise JobNotFound(job_id)
        return snapshot.retried_as

    async def _snapshot(self, job_id: str, owner: str, results_of_up_to: int = 0) -> Snapshot:
        snapshot = await self._store.snapshot(job_id, results_of_up_to=results_of_up_to)
        if snapshot is None or snapshot.owner != owner or _is_delivery(job_id):
            raise JobNotFound(job_id)
        return snapshot


def _is_delivery(job_id: str) -> bool:
    """That of a webhook is a job of its own, which nobody sees."""
    return "." in job_id


async def _commit(staging: Staging, submission: Submission) -> str:
    job_id = await staging.commit(submission)
    event = "job_accepted" if job_id == staging.job_id else "job_repeated"
    log.info(event, job=job_id, requests=dict(staging.lanes), owner=submission.owner or None)
    return job_id


async def to_async(requests: Iterable[LLMRequest]) -> AsyncIterator[LLMRequest]:
    for request in requests:
        yield request


def finished_batch(status: Job) -> BatchLLMResponse | None:
    """None while an item of it has not ended."""
    if status.total_latency_ms is None or status.average_latency_ms is None:
        return None
    return BatchLLMResponse(
        job_id=status.job_id,
        responses=[response for response in status.responses or () if response is not None],
        total_requests=status.total_requests,
        successful=status.successful,
        failed=status.failed,
        total_latency_ms=status.total_latency_ms,
        average_latency_ms=status.average_latency_ms,
    )


def _payload(request: LLMRequest, traceparent: str | None) -> bytes:
    chat = ChatRequest(
        provider=request.provider,
        model=request.model,
        messages=[{"role": m.role, "content": m.content} for m in request.messages],
        temperature=request.temperature,
        max_tokens=request.max_tokens,
    )
    if traceparent:
        chat["traceparent"] = traceparent
    return _arq_job(TASK, chat)


def _arq_job(task: str, *args: object) -> bytes:
    return serialize_job(task, args, {}, None, timestamp_ms(), serializer=orjson.dumps)


def _summary(job_id: str, snapshot: Snapshot) -> dict[str, Any]:
    s, done = snapshot, snapshot.finished_ms is not None
    successful = s.ended - s.failed
    return {
        "job_id": job_id,
        "owner": s.owner,
        "status": _state(snapshot),
        "total_requests": s.total,
        "providers": s.lanes,
        "queued": 0 if done else s.queued,
        "running": 0 if done else s.total - s.ended - s.queued,
        "successful": successful,
        "failed": s.total - successful if done else s.failed,
        "accepted_at": _time(s.accepted_ms),
        "started_at": _time(s.started_ms) if s.started_ms else None,
        "finished_at": _time(s.finished_ms) if s.finished_ms else None,
        "deadline_at": _time(s.deadline_ms) if s.deadline_ms else None,
        "retry_of": s.retry_of,
        "retried_as": s.retried_as,
        "webhook": _webhook(snapshot),
        "total_latency_ms": round(s.finished_ms - s.accepted_ms, 3) if s.finished_ms else None,
        "average_latency_ms": round(s.latency_ms / s.total, 3) if done else None,
    }


def _webhook(snapshot: Snapshot) -> WebhookStatus | None:
    if snapshot.webhook is None:
        return None
    url = orjson.loads(snapshot.webhook)["a"][1]
    stored, tries = snapshot.delivery or (None, None)
    if stored is None:
        attempts = int(tries.partition(b"@")[0]) if tries else 0
        return WebhookStatus(url=url, status=WebhookState.WAITING, attempts=attempts, error=None)
    result = Result.from_json(stored.partition(b" ")[2])
    state = WebhookState.GIVEN_UP if result.error else WebhookState.DELIVERED
    return WebhookStatus(url=url, status=state, attempts=result.attempts, error=result.error)


def _responses(snapshot: Snapshot) -> list[LLMResponse | None] | None:
    if snapshot.metas is None or snapshot.results is None:
        return None
    return [
        response(meta, snapshot.results.get(index), snapshot.ended_as, snapshot.finished_ms)
        for index, meta in enumerate(snapshot.metas)
    ]


def response(
    meta: Meta, stored: bytes | None, ended_as: str | None, finished_ms: float | None
) -> LLMResponse | None:
    """None: the item has not ended."""
    if stored is not None:
        ended, _, data = stored.partition(b" ")
        result, ended_ms = Result.from_json(data), float(ended)
    elif finished_ms is not None and ended_as:
        result, ended_ms = ENDED_AS.get(ended_as, CANCELLED), finished_ms
    else:
        return None
    request_id, provider, model = meta
    return LLMResponse(
        request_id=request_id,
        provider=provider,
        model=model,
        timestamp=_time(ended_ms),
        **result.to_dict(),
    )


def _state(snapshot: Snapshot) -> JobStatus:
    if snapshot.ended_as:
        return JobStatus(snapshot.ended_as)
    if snapshot.finished_ms is not None:
        return JobStatus.COMPLETED
    return JobStatus.RUNNING if snapshot.started_ms is not None else JobStatus.QUEUED


def _time(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
