"""Starts jobs for HTTP clients, and waits for a job if its client waits for the results."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
from functools import partial
from time import monotonic

from api.disconnect import cancel_on_disconnect, require_client
from api.errors.exception_types import (
    ClientDisconnected,
    IdempotencyResultExpired,
    ResultsUnavailable,
)
from api.redis_retry import redis_retry
from api.streams.job_updates import JobUpdates
from shared.jobs.new_item import NewItem
from shared.jobs.service import JobNotFound, Jobs
from shared.jobs.submission import Submission
from shared.jobs.views import StoredJob
from shared.redis.client import RedisUnavailable

MIN_RETRY_S = 2.0  # shortest time to retry a read of the status, even if the client's wait is over
MAX_RETRY_S = 600.0  # longest such time, because meanwhile no disconnect is noticed


class JobStarter:
    """Accepts jobs, and waits for them.

    If the client that waits for a job disconnects, a client of the same owner that posts the same
    body within `grace_s` gets the same job. If no client does this, the job is cancelled after
    `grace_s`, unless `cancels_abandoned` is false or the submission has an idempotency key.
    """

    def __init__(
        self, jobs: Jobs, updates: JobUpdates, *, grace_s: float, cancels_abandoned: bool
    ) -> None:
        self._jobs = jobs
        self._updates = updates
        self._grace_s = grace_s
        self._cancels_abandoned = cancels_abandoned

    async def start(
        self,
        items: AsyncIterable[NewItem],
        submission: Submission,
        *,
        wait_for_disconnect: Callable[[], Awaitable[None]],
    ) -> StoredJob:
        """Accepts a job and returns its status without waiting for results.

        `wait_for_disconnect` returns when the client has disconnected. Raises ClientDisconnected,
        and stores nothing, if the client disconnects before the job is accepted and has sent no
        idempotency key. Raises the exceptions of `items` and `status`, SubmissionRejected and
        RedisUnavailable. After RedisUnavailable, usually nothing was stored; but if only Redis's
        reply was lost, the job exists.
        """
        items = _of_client(items, submission, wait_for_disconnect)
        job_id = await self._jobs.submit(self._jobs.new_id(), items, submission)
        return await self.status(job_id, submission, retry_for_s=MIN_RETRY_S)

    async def run(
        self,
        items: AsyncIterable[NewItem],
        submission: Submission,
        *,
        wait_s: float,
        wait_for_disconnect: Callable[[], Awaitable[None]],
    ) -> StoredJob:
        """Accepts a job and returns its status when the job has ended, or after `wait_s`.

        Returns earlier if this process shuts down. If the client disconnects, abandons the job and
        raises ClientDisconnected. Raises everything that `start` raises.
        """
        items = _of_client(items, submission, wait_for_disconnect)
        new_id = self._jobs.new_id()
        deadline = monotonic() + wait_s
        with ExitStack() as subscriptions:
            finished = subscriptions.enter_context(self._updates.wait_finished(new_id))
            job_id = await self._jobs.submit(new_id, items, submission)
            if job_id != new_id:  # an earlier job has the same key or body, and may have ended
                finished = subscriptions.enter_context(self._updates.wait_finished(job_id))
                job = await self.status(job_id, submission, retry_for_s=MIN_RETRY_S)
                if job.has_ended:
                    finished.set()
            try:
                await cancel_on_disconnect(wait_for_disconnect(), _wait(finished, wait_s))
            except ClientDisconnected:
                await self.abandon(job_id, submission)
                raise
        retry_for_s = max(min(deadline - monotonic(), MAX_RETRY_S), MIN_RETRY_S)
        return await self.status(job_id, submission, retry_for_s=retry_for_s)

    async def abandon(self, job_id: str, submission: Submission) -> None:
        """Keeps the job of a disconnected client available for the grace period.

        A proxy may have ended the connection, and the client may post the same body again. After
        the period, no client will read the answers: see `JobStarter`. A job with an idempotency key
        continues, because its client can repeat the request at any time. While Redis is
        unavailable, tries for `MIN_RETRY_S`; then the job continues.
        """
        if not submission.idempotency_key:
            with suppress(RedisUnavailable):
                await redis_retry(MIN_RETRY_S)(
                    partial(
                        self._jobs.abandon,
                        job_id,
                        submission,
                        grace_s=self._grace_s,
                        cancels=self._cancels_abandoned,
                    )
                )

    async def status(self, job_id: str, submission: Submission, *, retry_for_s: float) -> StoredJob:
        """Returns the status of an accepted job.

        Repeats the read for `retry_for_s` while Redis is unavailable, because the job has been
        accepted and will be paid for, so the client should get the results. Then raises
        ResultsUnavailable. If the job has expired, raises IdempotencyResultExpired if the
        submission has an idempotency key, otherwise JobNotFound.
        """
        try:
            return await redis_retry(retry_for_s)(self._jobs.get, job_id, submission.owner)
        except RedisUnavailable:
            raise ResultsUnavailable(job_id) from None
        except JobNotFound:
            if submission.idempotency_key:
                raise IdempotencyResultExpired from None
            raise


async def _of_client(
    items: AsyncIterable[NewItem],
    submission: Submission,
    wait_for_disconnect: Callable[[], Awaitable[None]],
) -> AsyncIterator[NewItem]:
    """Yields the items. Raises ClientDisconnected at the end if the client has disconnected.

    A client with an idempotency key is not checked, because it gets the same job when it repeats
    the request.
    """
    async for item in items:
        yield item
    if not submission.idempotency_key:
        await require_client(wait_for_disconnect)


async def _wait(finished: asyncio.Event, wait_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await finished.wait()
