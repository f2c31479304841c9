"""Provides the client for synchronous programs and notebooks."""

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from orchestrator_client.async_client import RETRY_FOR_S, AsyncClient
from orchestrator_client.event_loop_thread import EventLoopThread
from orchestrator_client.models import (
    BatchLLMResponse,
    Job,
    JobItem,
    JobStatus,
    JobSummary,
    Order,
    Outcome,
    Overview,
)
from orchestrator_client.request_lines import ReplayableLines, Request, choose_idempotency_key


class Client:
    """Talks to an API from a synchronous program or a notebook, even where an event loop runs.

    The first request fails at once if the API cannot be reached. After that, each request is sent
    again while the API restarts, has no room or cannot reach Redis, for up to `retry_for_s`. That
    costs nothing twice: what makes a job has an idempotency key.

    It may be closed with `close` or `with`, and need not be. Its methods raise OrchestratorError:
    see `orchestrator_client.errors`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        """Raises InvalidConfiguration.

        url: of the API; else that in ORCHESTRATOR_URL, else http://localhost:8000.
        api_key: else that in ORCHESTRATOR_API_KEY; an API without API_KEYS needs none.
        retry_for_s: seconds for which a request is sent again.
        """
        self._client = AsyncClient(url, api_key=api_key, retry_for_s=retry_for_s)
        self._loop = EventLoopThread(self._client.close)

    @property
    def url(self) -> str:
        return self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._loop.close()

    def batch(
        self, requests: Iterable[Request], *, key: str | None = None, new: bool = False
    ) -> BatchLLMResponse:
        """Runs up to 100 requests and waits for all of their results, in the order of the requests.

        A request that fails does not raise: see `error` of its response. For `requests`, `key` and
        `new` see `submit`.
        """
        return self._loop.run(self._client.batch(list(requests), key=key, new=new))

    def submit(
        self,
        requests: Iterable[Request],
        *,
        key: str | None = None,
        new: bool = False,
        deadline_s: float | None = None,
        webhook_url: str | None = None,
    ) -> Job:
        """Makes a job of any number of requests; returns before it completes.

        The same requests, submitted again with the same options and the same API key, are the same
        job: a script that is run again continues it, and pays nothing twice. Requests are the same
        if they are the same JSON values in the same order. That lasts until
        IDEMPOTENCY_TTL_SECONDS after the job has completed, and also if it failed: see `retry`.

        requests: dictionaries such as `{"provider": "ollama", "model": "deepseek-r1:8b",
            "messages": [{"role": "user", "content": "Hello"}], "request_id": "1"}`, pydantic models
            or lines of JSON as bytes. An iterator is read first; what it yields beyond 16 MB is
            kept in a temporary file until all of it has arrived.
        key: an idempotency key, instead of the one that is derived from requests and options.
        new: makes a new job, whatever was submitted before.
        deadline_s: requests unfinished this many seconds after acceptance fail.
        webhook_url: receives a signed POST when the job has completed.
        """
        if not isinstance(requests, Sequence):
            # Read in this thread: a generator may use this client.
            requests = ReplayableLines(iter(requests))
            requests.read_all()
        key = choose_idempotency_key(
            requests, key=key, new=new, deadline_s=deadline_s, webhook_url=webhook_url
        )
        return self._loop.run(
            self._client.submit(requests, key=key, deadline_s=deadline_s, webhook_url=webhook_url)
        )

    def status(self, job_id: str) -> Job:
        """Returns a job as it is now."""
        return self._loop.run(self._client.status(job_id))

    def jobs(self, status: JobStatus | None = None) -> Iterator[JobSummary]:
        """Yields your jobs, newest first."""
        return self._loop.iterate(self._client.jobs(status))

    def overview(self) -> Overview:
        """Returns lanes, workers, and in words what is wrong."""
        return self._loop.run(self._client.overview())

    def cancel(self, job_id: str) -> Job:
        """Stops a job; its finished items stay as they are."""
        return self._loop.run(self._client.cancel(job_id))

    def retry(self, job_id: str) -> Job:
        """Makes a new job of the items that failed. Called again, it returns the same new job."""
        return self._loop.run(self._client.retry(job_id))

    def results(
        self,
        job_id: str,
        *,
        order: Order = "index",
        status: Outcome | None = None,
        follow: bool = True,
    ) -> Iterator[JobItem]:
        """Yields the results of a job, each as soon as it is there.

        Continues where a broken connection stopped. A request that failed does not raise: see
        `error` and `error_code` of its item. `item.model_dump()` is a flat row of a table.

        order: `index`, as the requests are, or `completion`, as they finish.
        status: only the `successful` or only the `failed` items.
        follow: waits for items that have not finished, else ends before the first of them.
        """
        for page in self._loop.iterate(
            self._client.result_pages(job_id, order=order, status=status, follow=follow)
        ):
            yield from page

    def failures(self, job_id: str, limit: int) -> list[JobItem]:
        """Returns the first `limit` failed items, in the order in which they failed, without
        waiting for more."""
        return self._loop.run(self._client.failures(job_id, limit))
