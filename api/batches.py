"""A batch from submission to answer."""

import asyncio
from collections.abc import AsyncIterable
from contextlib import ExitStack, suppress
from time import monotonic

from redis.exceptions import RedisError
from starlette.types import Receive
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from api.job_events import JobEvents
from api.streaming import ClientGone, cancel_on_disconnect
from shared.jobs.service import JobNotFound, Jobs
from shared.jobs.store import Submission
from shared.models import Job, LLMRequest

STATUS_RETRY_S = 0.25
STATUS_AT_LEAST_S = 2.0  # tried for this long even when the wait is used up


class ResultsUnavailable(Exception):
    """The job was accepted and goes on, but Redis does not give its state."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class IdempotencyResultExpired(Exception):
    """The idempotency key has made a job whose results have expired."""


class Batches:
    def __init__(self, jobs: Jobs, events: JobEvents, *, cancel_on_disconnect: bool) -> None:
        self._jobs = jobs
        self._events = events
        self._cancel_on_disconnect = cancel_on_disconnect

    async def submit(self, requests: AsyncIterable[LLMRequest], submission: Submission) -> Job:
        """Waits for nothing. Raises SubmissionRejected, RedisError (nothing was stored, unless only
        Redis's reply was lost), ResultsUnavailable, IdempotencyResultExpired."""
        job_id = self._jobs.new_id()
        made = await self._jobs.submit(job_id, requests, submission)
        return await self.status(made, submission, STATUS_AT_LEAST_S)

    async def run(
        self,
        requests: AsyncIterable[LLMRequest],
        submission: Submission,
        *,
        wait_s: float,
        receive: Receive,
    ) -> Job:
        """The state when the job is done or `wait_s` is over. Raises as `submit` and ClientGone."""
        job_id = self._jobs.new_id()
        deadline = monotonic() + wait_s
        with ExitStack() as watches:
            done = watches.enter_context(self._events.wait_finished(job_id))
            made = await self._jobs.submit(job_id, requests, submission)
            if made != job_id:  # by an earlier request with the same key; it may be done already
                done = watches.enter_context(self._events.wait_finished(made))
                if (await self.status(made, submission, STATUS_AT_LEAST_S)).finished_at:
                    done.set()
            try:
                await cancel_on_disconnect(receive, _wait(done, wait_s))
            except ClientGone:
                await self.abandon(made, submission)
                raise
        return await self.status(made, submission, max(deadline - monotonic(), STATUS_AT_LEAST_S))

    async def abandon(self, job_id: str, submission: Submission) -> None:
        """Its client has gone: nobody is to pay for answers without a reader."""
        if self._cancel_on_disconnect and not submission.key:
            with suppress(RedisError, OSError, JobNotFound):
                await _patient(STATUS_AT_LEAST_S)(self._jobs.cancel, job_id, submission.owner)

    async def status(self, job_id: str, submission: Submission, patience_s: float) -> Job:
        """Redis may be away just now; the answers have been paid for."""
        try:
            return await _patient(patience_s)(self._jobs.status, job_id, submission.owner)
        except (RedisError, OSError):
            raise ResultsUnavailable(job_id) from None
        except JobNotFound:
            if submission.key:
                raise IdempotencyResultExpired from None
            raise


def _patient(patience_s: float) -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type((RedisError, OSError)),
        stop=stop_after_delay(patience_s),
        wait=wait_fixed(STATUS_RETRY_S),
        reraise=True,
    )


async def _wait(done: asyncio.Event, wait_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await done.wait()
