"""Submits, reads, cancels and retries jobs for API clients."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from uuid import uuid4

import structlog

from shared.event_loop_yield import pause_after
from shared.jobs import views
from shared.jobs.index_set import IndexSet
from shared.jobs.new_item import NewItem, default_request_id
from shared.jobs.snapshot import Snapshot
from shared.jobs.staging import CHUNK_BYTES, Meta, Staging
from shared.jobs.store import Store
from shared.jobs.submission import Fingerprint, JobPolicy, Submission, acceptance, early_limits
from shared.jobs.views import StoredJob
from shared.memory_budget import Reservation
from shared.models import (
    MAX_BATCH_REQUESTS,
    NATIVE,
    JobStatus,
    JobSummary,
)
from shared.monitoring.tracing import NO_TRACER, Tracer
from shared.providers.lanes import alias_lane
from shared.queue.codec import (
    CALL_PROVIDER,
    DELIVER_WEBHOOK,
    OPENAI_EVENT,
    decode_payload,
    encode_payload,
)
from shared.queue.ids import is_job_id

PAGE_ITEMS = 50  # limit of items per page, because an answer may be large
PAGE_BYTES = 256 * 1024  # limit of the payloads or the stored results of a page
PAGE_JOBS = 20
MAX_SCANNED_JOBS = 1000  # limit of jobs that list_jobs reads for one page

log = structlog.get_logger()


class JobNotFound(Exception):
    """The owner has no job with this id, or the job has expired."""


class NothingToRetry(Exception):
    """The job cannot be retried; str(error) is the reason."""


class Jobs:
    """Submits, reads, cancels and retries jobs. Each method finds only the jobs of one owner.

    Raises RedisUnavailable, JobNotFound.
    """

    def __init__(self, store: Store, policy: JobPolicy, tracer: Tracer = NO_TRACER) -> None:
        self._store = store
        self._policy = policy
        self._tracer = tracer

    @staticmethod
    def new_id() -> str:
        return uuid4().hex

    async def submit(
        self, job_id: str, items: AsyncIterable[NewItem], submission: Submission
    ) -> str:
        """Accepts all of the requests or none, and returns the job's id.

        Returns the id of an earlier job of the owner, and creates no job, if the earlier job has
        the same idempotency key, or has the same `body_digest` and a client that has disconnected.
        If `is_repetition` is true, the earlier job may also be one that a client still waits for,
        or the last batch of the same file. Submitting the same `job_id` twice creates only one job.
        Raises SubmissionRejected, and the exceptions of iterating over `items`.
        """
        fingerprint = Fingerprint(submission)
        limits = early_limits(submission, self._policy)
        async with self._store.staging(job_id, submission.owner, limits) as staging:
            index, request_format = -1, NATIVE
            async for item in items:
                index += 1
                request, request_format = item.request, item.format
                lane, model = request["provider"], request["model"]
                if "alias" in request:
                    lane, model = alias_lane(request["alias"]), request["alias"]
                if submission.idempotency_key:
                    fingerprint.add(item)
                if trace := self._tracer.item_span(job_id, index, request["provider"], model):
                    request["traceparent"] = trace
                meta: Meta = (item.request_id, lane, model)
                if item.metadata is not None:
                    meta = (*meta[:3], item.metadata)
                payload = encode_payload(CALL_PROVIDER, request)
                await pause_after(len(payload))
                await staging.add(lane, payload, meta, request.get("chain", ""))
            webhook = submission.webhook_url
            fields = acceptance(
                submission,
                self._policy,
                fingerprint=fingerprint.hexdigest() if submission.idempotency_key else None,
                webhook_payload=_webhook_payload(job_id, webhook, submission) if webhook else None,
                request_format=request_format,
            )
            return await self._commit(staging, fields)

    async def get(self, job_id: str, owner: str = "") -> StoredJob:
        """Returns the job.

        The snapshot of a job of at most MAX_BATCH_REQUESTS items has the metas, and the results if
        these are small: see `Store.snapshot`.
        """
        return StoredJob(job_id, await self._snapshot(job_id, owner, MAX_BATCH_REQUESTS))

    async def summary(self, job_id: str, owner: str = "") -> JobSummary:
        return views.job_summary(job_id, await self._snapshot(job_id, owner))

    async def list_jobs(
        self, owner: str, status: JobStatus | None, before_us: int | None, limit: int
    ) -> tuple[list[JobSummary], int | None]:
        """Returns up to `limit` jobs of the owner, newest first, and where the next page begins.

        before_us: only jobs that were accepted before this time are returned; None for all jobs.

        The second value is the `before_us` of the next page, or None if all jobs were read. The
        last page may be empty. If `status` is given, an earlier page may have fewer than `limit`
        jobs, because one call reads about MAX_SCANNED_JOBS jobs at most.
        """
        found: list[JobSummary] = []
        page_size, scanned = max(limit, PAGE_JOBS), 0
        while scanned < MAX_SCANNED_JOBS:
            page = await self._store.list_jobs(owner, before_us, page_size)
            for job_id, accepted_us, snapshot in page:
                scanned += 1
                before_us = accepted_us
                if snapshot and status in {None, views.job_status(snapshot)}:
                    found.append(views.job_summary(job_id, snapshot))
                if len(found) == limit:
                    return found, before_us
            if len(page) < page_size:
                return found, None
        return found, before_us

    async def cancel(self, job_id: str, owner: str = "") -> StoredJob:
        """Cancels the job unless it has ended. Finished items keep their results."""
        if is_job_id(job_id):
            await self._store.cancel(job_id, owner)
        return await self.get(job_id, owner)

    async def abandon(
        self, job_id: str, submission: Submission, *, grace_s: float, cancels: bool
    ) -> None:
        """Records that the client that waited for the job has disconnected. See `Store.abandon`."""
        await self._store.abandon(
            job_id, submission.owner, submission.body_digest or "", grace_s=grace_s, cancels=cancels
        )

    async def retry(self, job_id: str, submission: Submission, memory: Reservation) -> str:
        """Creates a new job from the failed items, and returns the new job's id.

        If the job ended early, its items without a result have failed, too. An item without a
        request id gets the default id of its index in the old job, because it has another index in
        the new job. If the job was retried before, returns the id of that retry. Reserves the
        memory that the items take. Raises SubmissionRejected, NothingToRetry, MemoryFull.
        """
        snapshot = await self._snapshot(job_id, submission.owner)
        if snapshot.retried_as:
            return snapshot.retried_as
        if snapshot.finished_ms is None:
            raise NothingToRetry("the job has not ended")
        failed = await self._failed(job_id, snapshot)
        if not failed:
            raise NothingToRetry("no request of the job failed")
        async with self._store.staging(self.new_id(), submission.owner) as staging:
            async for index, meta, payload in self._payloads(job_id, failed, memory):
                if meta is None or payload is None:  # the job expired, or another call retried it
                    await staging.discard()
                    return await self._retried_as(job_id, submission.owner)
                request_id = meta[0] or default_request_id(index)
                await staging.add(meta[1], payload, (request_id, *meta[1:]), _chain(payload))
            fields = acceptance(
                submission, self._policy, retry_of=job_id, request_format=snapshot.format
            )
            return await self._commit(staging, fields)

    async def _payloads(
        self, job_id: str, indexes: IndexSet, memory: Reservation
    ) -> AsyncIterator[tuple[int, Meta | None, bytes | None]]:
        position, size, max_bytes = 0, 0, PAGE_BYTES
        while page := indexes.page(position, PAGE_ITEMS):
            # A page takes memory as a reply, as values and as a command. Staging holds earlier
            # pages as values, and sends these in one command.
            memory.resize(3 * max_bytes + 2 * min(size, CHUNK_BYTES))
            stored, next_bytes = await self._store.read_payloads(job_id, page, max_bytes=max_bytes)
            for index, (meta, payload) in zip(page, stored, strict=False):
                size += len(payload or b"")
                yield index, meta, payload
            position += len(stored)
            max_bytes = PAGE_BYTES if stored else next_bytes

    @staticmethod
    async def _commit(staging: Staging, fields: Mapping[str, object]) -> str:
        """Creates the job of the staged items. Returns the same id as `Staging.commit`.

        fields: the result of `acceptance`.
        """
        job_id = await staging.commit(fields)
        event = "job_accepted" if job_id == staging.job_id else "job_repeated"
        log.info(event, job=job_id, requests=dict(staging.lanes), owner=fields["owner"] or None)
        return job_id

    async def _failed(self, job_id: str, snapshot: Snapshot) -> IndexSet:
        """Returns the indexes of the failed items.

        If the job ended early, its items without a result have failed, too.
        """
        if snapshot.finished_early_as:
            indexes = await self._store.unfinished(job_id, snapshot)
        else:
            indexes = IndexSet(snapshot.total)
        await self._store.add_failed(job_id, indexes)
        return indexes

    async def _retried_as(self, job_id: str, owner: str) -> str:
        snapshot = await self._snapshot(job_id, owner)
        if snapshot.retried_as is None:
            raise JobNotFound(job_id)
        return snapshot.retried_as

    async def _snapshot(self, job_id: str, owner: str, max_items: int = 0) -> Snapshot:
        snapshot = None
        if is_job_id(job_id):
            snapshot = await self._store.snapshot(job_id, owner, max_items=max_items)
        if snapshot is None:
            raise JobNotFound(job_id)
        return snapshot


def _webhook_payload(job_id: str, url: str, submission: Submission) -> bytes:
    form = () if submission.batch is None else (OPENAI_EVENT,)
    return encode_payload(DELIVER_WEBHOOK, job_id, url, submission.owner, *form)


def _chain(payload: bytes) -> str:
    """Returns the `chain` of the request in a payload: see `ItemRequest`. Returns "" without it."""
    if b'"chain"' not in payload:
        return ""
    _, (request, *_) = decode_payload(payload)
    return str(request.get("chain", ""))
