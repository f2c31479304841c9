"""Submits a job, and waits for its end."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import ExitStack, suppress
from time import monotonic

from api.disconnect import ClientDisconnected, cancel_on_disconnect
from api.job_events import JobEvents
from api.redis_retry import redis_retry
from shared.jobs.service import JobNotFound, Jobs
from shared.jobs.submission import Submission
from shared.models import Job, LLMRequest
from shared.redis.client import RedisUnavailable

MIN_RETRY_S = 2.0  # for reading the status, even when the client's wait is over


class ResultsUnavailable(Exception):
    """The job was accepted and continues, but Redis is unavailable and its status can't be read."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class IdempotencyResultExpired(Exception):
    """The job that was made with this idempotency key has expired."""


class Batches:
    """Runs jobs for clients that wait for them, and accepts jobs for those that don't.

    `cancel_on_disconnect` says whether a job is cancelled when the client that waits for it
    disconnects.
    """

    def __init__(self, jobs: Jobs, events: JobEvents, *, cancel_on_disconnect: bool) -> None:
        self._jobs = jobs
        self._events = events
        self._cancel_on_disconnect = cancel_on_disconnect

    async def start(self, requests: AsyncIterable[LLMRequest], submission: Submission) -> Job:
        """Accepts a job and returns its status at once.

        Raises SubmissionRejected, IdempotencyResultExpired, RedisUnavailable (nothing was stored,
        unless only Redis's reply was lost) and ResultsUnavailable.
        """
        job_id = await self._jobs.submit(self._jobs.new_id(), requests, submission)
        return await self.status(job_id, submission, retry_for_s=MIN_RETRY_S)

    async def run(
        self,
        requests: AsyncIterable[LLMRequest],
        submission: Submission,
        *,
        wait_s: float,
        wait_for_disconnect: Callable[[], Awaitable[None]],
    ) -> Job:
        """Accepts a job and returns its status once it has completed, or after `wait_s`.

        `wait_for_disconnect` returns when the client has disconnected. Raises ClientDisconnected
        then, and what `start` raises.
        """
        new_id = self._jobs.new_id()
        deadline = monotonic() + wait_s
        with ExitStack() as subscriptions:
            finished = subscriptions.enter_context(self._events.wait_finished(new_id))
            job_id = await self._jobs.submit(new_id, requests, submission)
            if job_id != new_id:  # an earlier job with the same key, which may have completed
                finished = subscriptions.enter_context(self._events.wait_finished(job_id))
                job = await self.status(job_id, submission, retry_for_s=MIN_RETRY_S)
                if job.finished_at:
                    finished.set()
            try:
                await cancel_on_disconnect(wait_for_disconnect(), _wait(finished, wait_s))
            except ClientDisconnected:
                await self.cancel_abandoned(job_id, submission)
                raise
        left_s = deadline - monotonic()
        return await self.status(job_id, submission, retry_for_s=max(left_s, MIN_RETRY_S))

    async def cancel_abandoned(self, job_id: str, submission: Submission) -> None:
        """Cancels the job of a disconnected client, because nobody will read its answers.

        A job with an idempotency key continues: its client can repeat the request.
        """
        if self._cancel_on_disconnect and not submission.idempotency_key:
            with suppress(RedisUnavailable, JobNotFound):
                await redis_retry(MIN_RETRY_S)(self._jobs.cancel, job_id, submission.owner)

    async def status(self, job_id: str, submission: Submission, *, retry_for_s: float) -> Job:
        """Returns the status of a job that was accepted.

        Retries while Redis is unavailable, because the answers have been paid for. Raises
        ResultsUnavailable, IdempotencyResultExpired and JobNotFound.
        """
        try:
            return await redis_retry(retry_for_s)(self._jobs.get, job_id, submission.owner)
        except RedisUnavailable:
            raise ResultsUnavailable(job_id) from None
        except JobNotFound:
            if submission.idempotency_key:
                raise IdempotencyResultExpired from None
            raise


async def _wait(finished: asyncio.Event, wait_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await finished.wait()
