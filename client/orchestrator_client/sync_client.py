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
    JobOrId,
    JobStatus,
    JobSummary,
    Order,
    Outcome,
    Overview,
    RequestFormat,
    ResultFormat,
)
from orchestrator_client.request_lines import ReplayableLines, Request, choose_idempotency_key


class Client:
    """Calls an API from a synchronous program, even in a thread that runs an event loop.

    A notebook runs its cells in such a thread.

    If this client has never reached the API, a request that cannot connect fails immediately.
    Otherwise, the client repeats a request for up to `retry_for_s` seconds: while the API restarts,
    while the API is full (429 or 503), while Redis is unavailable (503), and while a proxy gets no
    answer from the API (502, 504, 520 to 524 or 530). You never pay twice for a repeated request:
    `submit` and `batch` send an idempotency key, and the other methods have no further effect if
    they are repeated.

    Closing a client is optional: call `close`, or use the client in a `with` statement. The
    methods raise OrchestratorError: see `orchestrator_client.errors`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        """Raises InvalidConfiguration if the URL or the API key cannot be used.

        url: the API's URL. Default: ORCHESTRATOR_URL, or http://localhost:8000 if the variable is
            not set.
        api_key: your API key. Default: ORCHESTRATOR_API_KEY. Not needed if the API has no API_KEYS.
        retry_for_s: limit, in seconds, of the time for which one request is repeated. The time
            begins at the first failure, and again whenever the API answers.
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
        """Runs up to 100 requests, waits, and returns the results in the order of the requests.

        A failed request raises no exception: read `error` of its result. `submit` describes
        `requests`, `key` and `new`.
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
        provider: str | None = None,
        model: str | None = None,
        format: RequestFormat | None = None,  # noqa: A002 — the API's name
    ) -> Job:
        """Submits any number of requests as one job, and returns without waiting for the results.

        If you submit the same requests with the same options and the same API key again, you get
        the same job. A script that you run again therefore continues its job and pays nothing
        twice. Requests are the same if they are the same JSON values in the same order. This holds
        until IDEMPOTENCY_TTL_SECONDS after the job has ended, even if requests of the job
        failed: to run the failed requests again, use `retry`.

        requests: dictionaries such as `{"provider": "ollama", "model": "deepseek-r1:8b",
            "messages": [{"role": "user", "content": "Hello"}], "request_id": "1"}`, pydantic models
            or lines of JSON as bytes. An iterator is read to its end before anything is sent. Its
            lines are kept in memory or, if they exceed 16 MiB, in a temporary file.
        key: the idempotency key. Default: a key that is derived from the requests and the options.
        new: True: always submits a new job, with a random idempotency key. `key` is then ignored.
        deadline_s: seconds from acceptance to the deadline. Requests that have not finished by
            then fail.
        webhook_url: URL that gets a signed POST when the job has ended.
        provider, model: the provider and the model of requests in a vendor's format, such as the
            lines of an OpenAI batch file. `model` replaces the model in the requests. The API
            refuses both options for native requests.
        format: the format of the requests. Default: the first request decides.
        """
        if not isinstance(requests, Sequence):
            # The requests are read in this thread, because a generator may call this client.
            requests = ReplayableLines(iter(requests))
            requests.read_all()
        # The key is derived in this thread, too, because that takes time.
        key = choose_idempotency_key(
            requests,
            key=key,
            new=new,
            deadline_s=deadline_s,
            webhook_url=webhook_url,
            provider=provider,
            model=model,
            format=format,
        )
        return self._loop.run(
            self._client.submit(
                requests,
                key=key,
                deadline_s=deadline_s,
                webhook_url=webhook_url,
                provider=provider,
                model=model,
                format=format,
            )
        )

    def status(self, job_id: JobOrId) -> Job:
        """Returns the job and, if it has at most 100 requests, its results so far."""
        return self._loop.run(self._client.status(job_id))

    def jobs(self, status: JobStatus | None = None) -> Iterator[JobSummary]:
        """Yields your jobs, the newest first; with `status`, only the jobs with that status."""
        return self._loop.iterate(self._client.jobs(status))

    def overview(self) -> Overview:
        """Returns the lanes, the workers, and the notices, which explain problems in words."""
        return self._loop.run(self._client.overview())

    def cancel(self, job_id: JobOrId) -> Job:
        """Cancels a job and returns it. Finished requests keep their results."""
        return self._loop.run(self._client.cancel(job_id))

    def retry(self, job_id: JobOrId) -> Job:
        """Creates a new job from the failed requests of a job, and returns the new job.

        A second call for the same job returns the same new job.
        """
        return self._loop.run(self._client.retry(job_id))

    def results(
        self,
        job_id: JobOrId,
        *,
        order: Order = "index",
        status: Outcome | None = None,
        follow: bool = True,
    ) -> Iterator[JobItem]:
        """Yields the results of a job, each as soon as it is available.

        If the connection breaks, the client connects again and continues with the next result. A
        failed request raises no exception: read `error` and `error_code` of its result.
        `item.model_dump()` is a flat row of a table. If no result arrives for some seconds, the
        client logs why, for example that a provider refuses its key: each cause once.

        job_id: the job that `submit` returned, or its id. All methods accept both.
        order: `index` for the order of the requests, `completion` for the order in which they
            finish.
        status: `successful` or `failed` yields only these results. Default: all results.
        follow: True: waits for results. False: ends at the first result that is not available yet.
        """
        for page in self._loop.iterate(
            self._client.result_pages(job_id, order=order, status=status, follow=follow)
        ):
            yield from page

    def result_lines(
        self,
        job_id: JobOrId,
        *,
        format: ResultFormat = "native",  # noqa: A002 — the API's name
        order: Order = "index",
        status: Outcome | None = None,
        follow: bool = True,
    ) -> Iterator[bytes]:
        """Yields the results of a job as lines of JSON, in this API's or in a vendor's format.

        A program that reads the result files of a vendor's batches can read lines in that vendor's
        format. If the connection breaks, the client connects again and continues with the next
        line. A line has no line feed.

        format: `openai`, `anthropic`, `gemini`, or `native` for this API's own lines.
        order, status, follow: as for `results`.
        """
        for page in self._loop.iterate(
            self._client.result_line_pages(
                job_id, format=format, order=order, status=status, follow=follow
            )
        ):
            yield from page

    def failures(self, job_id: JobOrId, limit: int) -> list[JobItem]:
        """Returns up to `limit` failed results, in the order in which the requests failed.

        Does not wait for requests that have not finished.
        """
        return self._loop.run(self._client.failures(job_id, limit))
