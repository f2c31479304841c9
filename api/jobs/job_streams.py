"""Builds the streams of a job: the response to a batch, the results and the events."""

from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Literal

from api.jobs.job_starter import MIN_RETRY_S, JobStarter
from api.media_types import EVENT_STREAM, NDJSON
from api.redis_retry import redis_retry
from api.streams.result_stream import ResultStream, StreamInterrupted, filter_items
from api.streams.stream_formats import STREAM_FORMATS, StreamFormat, encode_pages
from api.streams.stream_response import StreamResponse
from api.streams.vendor_results import ResultFormat, vendor_format
from shared.jobs.result_reader import CursorOutOfRange, JobReader, Order
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.jobs.submission import Submission
from shared.models import JobItem, JobSummary
from shared.redis.client import RedisUnavailable

ItemOutcome = Literal["successful", "failed"]


class JobStreams:
    """Returns the streams of jobs.

    Errors of a request are found before its stream starts, because the status code of the response
    cannot change later: `results` and `events` raise JobNotFound, CursorOutOfRange and
    RedisUnavailable.
    """

    def __init__(
        self, store: Store, jobs: Jobs, starter: JobStarter, result_stream: ResultStream
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._starter = starter
        self._result_stream = result_stream

    def batch(
        self,
        job_id: str,
        submission: Submission,
        stream_format: StreamFormat,
        *,
        wait_s: float,
        headers: dict[str, str],
    ) -> StreamResponse:
        """Returns a stream of the items of a batch as they finish, and then of the job's status.

        The stream ends when the job has ended, or after `wait_s`. If the client disconnects before,
        the job is abandoned: see `JobStarter.abandon`.
        """
        reader = JobReader(
            self._store, job_id, submission.owner, order=Order.COMPLETION, position=0
        )
        until = monotonic() + wait_s
        pages = self._result_stream.pages(reader, until=until)
        return StreamResponse(
            encode_pages(pages, stream_format, summary=self._status(job_id, submission, until)),
            stream_format.media_type,
            headers={"Location": f"/jobs/{job_id}", **headers},
            on_disconnect=partial(self._starter.abandon, job_id, submission),
        )

    def _status(
        self, job_id: str, submission: Submission, until: float
    ) -> Callable[[], Awaitable[JobSummary]]:
        async def status() -> JobSummary:
            retry_for_s = max(until - monotonic(), MIN_RETRY_S)
            try:
                return await redis_retry(retry_for_s)(self._jobs.summary, job_id, submission.owner)
            except RedisUnavailable:
                raise StreamInterrupted("Redis is unavailable") from None

        return status

    async def results(
        self,
        job_id: str,
        owner: str,
        *,
        order: Order,
        outcome: ItemOutcome | None,
        after: int,
        limit: int | None,
        follow: bool,
        content: bool,
        result_format: ResultFormat,
    ) -> StreamResponse:
        """Returns a stream of the items after the cursor `after`, one per line.

        If `outcome` is not None, the stream has only items with this outcome. `limit` is the
        largest number of items, or None. If `follow` is true, the stream waits for unfinished
        items, otherwise it ends at the first unfinished item. If `content` is false, the answers
        are empty. Raises FormatMismatch if the results cannot be written in `result_format`.
        """
        stream_format = STREAM_FORMATS[NDJSON]
        if result_format is not ResultFormat.NATIVE:
            stream_format = vendor_format(result_format, await self._jobs.summary(job_id, owner))
        reader = await self._reader(job_id, owner, order, after)
        stream = self._result_stream
        pages = stream.pages(reader) if follow else stream.finished_pages(reader)

        def keep(item: JobItem) -> bool:
            return outcome is None or (outcome == "failed") == (item.error is not None)

        items = filter_items(pages, keep, limit=limit, content=content)
        return StreamResponse(encode_pages(items, stream_format), NDJSON)

    async def events(self, job_id: str, owner: str, *, last_event_id: int) -> StreamResponse | None:
        """Returns a stream of the events after `last_event_id`.

        Returns None if `last_event_id` is the id of the event `done`: no event follows.
        """
        job = await self._jobs.summary(job_id, owner)
        if job.finished_at and last_event_id == job.total_requests + 1:
            return None
        reader = await self._reader(job_id, owner, Order.COMPLETION, last_event_id)
        summary = partial(self._jobs.summary, job_id, owner)
        pages = self._result_stream.pages(reader)
        return StreamResponse(
            encode_pages(pages, STREAM_FORMATS[EVENT_STREAM], summary=summary), EVENT_STREAM
        )

    async def _reader(self, job_id: str, owner: str, order: Order, position: int) -> JobReader:
        if position > (await self._jobs.summary(job_id, owner)).total_requests:
            raise CursorOutOfRange
        return JobReader(self._store, job_id, owner, order=order, position=position)
