"""A batch from submission to answer."""

import asyncio
from contextlib import suppress
from time import monotonic

from redis.exceptions import RedisError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from api.waiting import Waiting
from shared.jobs import Jobs
from shared.models import BatchLLMRequest, JobStatus

STATUS_RETRY_S = 0.25
STATUS_AT_LEAST_S = 2.0  # tried for this long even when the wait is used up


class ResultsUnavailable(Exception):
    """The job was accepted and goes on, but Redis does not give its state."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class Batches:
    def __init__(self, jobs: Jobs, waiting: Waiting) -> None:
        self._jobs = jobs
        self._waiting = waiting

    async def run(self, batch: BatchLLMRequest, *, wait_s: float) -> JobStatus:
        """The state when the job is done or `wait_s` is over. Raises LaneFull, RedisError (nothing
        was stored, unless only Redis's reply was lost), ResultsUnavailable."""
        job_id = self._jobs.new_id()
        deadline = monotonic() + wait_s
        with self._waiting.watch(job_id) as done:
            await self._jobs.submit(job_id, batch)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await done.wait()
        return await self._status(job_id, max(deadline - monotonic(), STATUS_AT_LEAST_S))

    async def _status(self, job_id: str, patience_s: float) -> JobStatus:
        """Redis may be away just now; the answers have been paid for."""
        patiently = AsyncRetrying(
            retry=retry_if_exception_type((RedisError, OSError)),
            stop=stop_after_delay(patience_s),
            wait=wait_fixed(STATUS_RETRY_S),
            reraise=True,
        )
        try:
            return await patiently(self._jobs.status, job_id)
        except (RedisError, OSError):
            raise ResultsUnavailable(job_id) from None
