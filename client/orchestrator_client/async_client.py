"""Provides the client for asynchronous programs."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from orchestrator_client.connection import Connection, log
from orchestrator_client.errors import (
    ConnectionFailed,
    InvalidResponse,
    RequestRejected,
    ServiceUnavailable,
)
from orchestrator_client.models import (
    BatchLLMResponse,
    Job,
    JobItem,
    JobList,
    JobOrId,
    JobStatus,
    JobSummary,
    Order,
    Outcome,
    Overview,
    RequestFormat,
    ResultFormat,
    parse,
)
from orchestrator_client.notice_log import NoticeLog
from orchestrator_client.refused_requests import name_requests
from orchestrator_client.request_lines import (
    ReplayableLines,
    Request,
    choose_idempotency_key,
    to_lines,
    upload_chunks,
)
from orchestrator_client.result_lines import follow_lines
from orchestrator_client.retry import RETRY_S

RETRY_FOR_S = 60.0
WAIT_S = 25  # limit of the API's wait in one POST /batch; proxies often end a wait after 30 s
JOBS_PER_PAGE = 100

Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


class AsyncClient:
    """Calls an API from an asynchronous program.

    `Client` has the same methods, and describes them. Use an AsyncClient in one event loop only.
    Closing an AsyncClient is optional: call `close`, or use an `async with` statement.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        retry_for_s: float = RETRY_FOR_S,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        """Raises InvalidConfiguration if the URL or the API key cannot be used.

        `Client` describes the other parameters.

        on_retry: function that is called with the reason before a request is repeated, once for
            each reason. Default: a warning in the log.
        """
        self._connection = Connection(url, api_key, retry_for_s, on_retry)

    @property
    def url(self) -> str:
        return self._connection.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connection.close()

    async def batch(
        self, requests: Iterable[Request], *, key: str | None = None, new: bool = False
    ) -> BatchLLMResponse:
        """Runs up to 100 requests, waits, and returns the results. See `Client.batch`."""
        lines = list(to_lines(requests))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": choose_idempotency_key(lines, key=key, new=new),
        }
        body = b'{"requests":[' + b",".join(lines) + b"]}"
        wait_s, budget = WAIT_S, self._connection.retry_budget()
        while True:
            asked_at = monotonic()
            preference = {"Prefer": f"wait={wait_s}"}
            try:
                response = await self._connection.attempt(
                    "POST", "/batch", content=body, headers=headers | preference
                )
            except (ConnectionFailed, ServiceUnavailable) as error:
                wait_s = _shorter_wait(wait_s, monotonic() - asked_at)
                await budget.wait(error)
                continue
            if response.status_code == httpx.codes.OK:  # the alternative is 202: not complete yet
                return _parse(BatchLLMResponse, response)
            budget.renew()
            # The API may be configured to wait for less than WAIT_S, even for 0 s.
            await asyncio.sleep(max(0, asked_at + RETRY_S - monotonic()))

    async def submit(
        self,
        requests: Iterable[Request],
        *,
        key: str | None = None,
        new: bool = False,
        deadline_s: float | None = None,
        webhook_url: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        format: RequestFormat | None = None,  # noqa: A002 — the API's name
    ) -> Job:
        """Submits any number of requests as one job, and returns without waiting for the results.

        See `Client.submit`. An iterator is read in the event loop, so its code must not block. The
        idempotency key is derived in the event loop, too, which takes about 20 µs per request.
        """
        if isinstance(requests, Iterator):
            requests = ReplayableLines(requests)
        options: dict[str, Any] = {"deadline_s": deadline_s, "webhook_url": webhook_url}
        foreign: dict[str, Any] = {"provider": provider, "model": model, "format": format}
        key = choose_idempotency_key(requests, key=key, new=new, **options, **foreign)
        try:
            response = await self._connection.request(
                "POST",
                "/jobs",
                body=lambda: upload_chunks(requests),
                params=_drop_none(options | foreign),
                headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": key},
            )
        except RequestRejected as error:
            raise name_requests(error, requests) from None
        job = _parse(Job, response)
        if job.finished_at and job.failed:
            log.warning(
                "Job %s has ended at %s, and %d of its %d requests failed. While its results are"
                " stored, the same requests return these results. To run the failed requests"
                " again: client.retry(%r)",
                *(job.job_id, f"{job.finished_at:%Y-%m-%d %H:%M:%S} UTC", job.failed),
                *(job.total_requests, job.job_id),
            )
        return job

    async def status(self, job_id: JobOrId) -> Job:
        """Returns the job and, if it has at most 100 requests, its results so far."""
        return _parse(Job, await self._connection.request("GET", _path(job_id)))

    async def jobs(self, status: JobStatus | None = None) -> AsyncGenerator[JobSummary, None]:
        """Yields your jobs, the newest first; with `status`, only the jobs with that status."""
        cursor = None
        while True:
            query = _drop_none({"status": status, "cursor": cursor, "limit": JOBS_PER_PAGE})
            page = _parse(JobList, await self._connection.request("GET", "/jobs", params=query))
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def overview(self) -> Overview:
        """Returns the lanes, the workers, and the notices, which explain problems in words."""
        return _parse(Overview, await self._connection.request("GET", "/overview"))

    async def cancel(self, job_id: JobOrId) -> Job:
        """Cancels a job and returns it. Finished requests keep their results."""
        return _parse(Job, await self._connection.request("DELETE", _path(job_id)))

    async def retry(self, job_id: JobOrId) -> Job:
        """Creates a new job from the failed requests of a job. See `Client.retry`."""
        return _parse(Job, await self._connection.request("POST", _path(job_id, "/retry")))

    async def results(
        self,
        job_id: JobOrId,
        *,
        order: Order = "index",
        status: Outcome | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[JobItem, None]:
        """Yields the results of a job, each as soon as it is available. See `Client.results`."""
        async with aclosing(
            self.result_pages(job_id, order=order, status=status, follow=follow)
        ) as pages:
            async for page in pages:
                for item in page:
                    yield item

    async def result_pages(
        self,
        job_id: JobOrId,
        *,
        order: Order = "index",
        status: Outcome | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[list[JobItem], None]:
        """Yields the same results as `results`, in lists. Results of one list arrived together."""
        after = 0

        def query() -> dict[str, Any]:
            return {"order": order, "after": after, "follow": follow}

        async with aclosing(
            follow_lines(
                self._connection,
                _path(job_id, "/results"),
                query,
                partial(parse, JobItem),
                NoticeLog(self._connection, _path(job_id)).log_new,
            )
        ) as pages:
            async for page in pages:
                after = page[-1].cursor
                yield [item for item in page if _has_outcome(item, status)]

    async def result_lines(
        self,
        job_id: JobOrId,
        *,
        format: ResultFormat = "native",  # noqa: A002 — the API's name
        order: Order = "index",
        status: Outcome | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[bytes, None]:
        """Yields the results of a job as lines of JSON. See `Client.result_lines`."""
        async with aclosing(
            self.result_line_pages(job_id, format=format, order=order, status=status, follow=follow)
        ) as pages:
            async for page in pages:
                for line in page:
                    yield line

    async def result_line_pages(
        self,
        job_id: JobOrId,
        *,
        format: ResultFormat = "native",  # noqa: A002 — the API's name
        order: Order = "index",
        status: Outcome | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[list[bytes], None]:
        """Yields the same lines as `result_lines`, in lists. Lines of one list arrived together."""
        read = skip = 0
        form = None if format == "native" else format  # an older API does not know the parameter

        def query() -> dict[str, Any]:
            nonlocal skip
            # A line in a vendor's format has no cursor. Without `status`, the number of the lines
            # that were read is the cursor. With `status`, these lines are read again and skipped.
            skip = read if status else 0
            after = read - skip
            return {
                "format": form,
                "order": order,
                "after": after,
                "status": status,
                "follow": follow,
            }

        async with aclosing(
            follow_lines(
                self._connection,
                _path(job_id, "/results"),
                query,
                bytes,
                NoticeLog(self._connection, _path(job_id)).log_new,
            )
        ) as pages:
            async for page in pages:
                new, skip = page[skip:], max(0, skip - len(page))
                read += len(new)
                if new:
                    yield new

    async def failures(self, job_id: JobOrId, limit: int) -> list[JobItem]:
        """Returns up to `limit` failed results. See `Client.failures`."""
        query = {"status": "failed", "order": "completion", "follow": "false", "limit": str(limit)}
        response = await self._connection.request("GET", _path(job_id, "/results"), params=query)
        lines = response.content.splitlines()
        return [_parse_json(JobItem, line, response) for line in lines if line]


def _shorter_wait(wait_s: int, failed_after_s: float) -> int:
    """Returns the wait to ask for in the next attempt, after an attempt that failed.

    If the attempt lasted 2 s or more, returns at most half of its duration: a proxy may have ended
    the attempt, because some proxies do not wait as long as the API.
    """
    half_s = int(failed_after_s / 2)
    return min(wait_s, half_s) if half_s else wait_s


def _path(job: JobOrId, suffix: str = "") -> str:
    job_id = job if isinstance(job, str) else getattr(job, "job_id", None)
    if not isinstance(job_id, str):
        raise TypeError(f"a job or the id of a job is needed, not {type(job).__name__}")
    return f"/jobs/{quote(job_id or ' ', safe='')}{suffix}"


def _drop_none(query: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value is not None}


def _has_outcome(item: JobItem, outcome: Outcome | None) -> bool:
    return outcome is None or (outcome == "failed") == (item.error is not None)


def _parse(model: type[Model], response: httpx.Response) -> Model:
    return _parse_json(model, response.content, response)


def _parse_json(model: type[Model], text: bytes, response: httpx.Response) -> Model:
    try:
        return parse(model, text)
    except ValidationError:
        raise InvalidResponse(
            str(response.url.copy_with(query=None)), response.status_code
        ) from None
