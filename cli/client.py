"""A client for programs and for the command line: typed, and safe to repeat.

with Client() as client:
    job = client.submit(requests)
    for item in client.results(job.job_id):
        print(item.index, item.content)
"""

import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractContextManager, aclosing
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from uuid import uuid4

import httpx
import orjson
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import BaseModel

from cli.patience import Later, Patience, check
from shared.models import (
    BatchLLMResponse,
    JobItem,
    JobList,
    JobState,
    JobStatus,
    JobSummary,
    LLMRequest,
)
from shared.overview import Overview

URL = "http://localhost:8000"
NDJSON = "application/x-ndjson"
PIECE_BYTES = 64 * 1024
PATIENCE_S = 60.0
TIMEOUT_S = 60.0  # for a sign of life
WAIT_S = 30  # for one answer to a batch

Request = LLMRequest | Mapping[str, Any] | bytes  # the last: a line of JSON
Outcome = Literal["successful", "failed"]
Ordering = Literal["index", "completion"]

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


class _Quiet(Exception):
    """Nothing has come for `TIMEOUT_S`: nothing has ended, or the connection is dead."""


class AsyncClient:
    """Each request is repeated for `patience_s` while the API cannot be reached or has no room.
    That costs nothing twice: what makes a job has an idempotency key. Raises OrchestratorError."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        patience_s: float = PATIENCE_S,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Without arguments from ORCHESTRATOR_URL and ORCHESTRATOR_API_KEY. `on_trouble` is told
        why, each time something has to be repeated."""
        key = api_key or os.environ.get("ORCHESTRATOR_API_KEY")
        self.url = url or os.environ.get("ORCHESTRATOR_URL") or URL
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=TIMEOUT_S,
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        self._patience_s = patience_s
        self._on_trouble = on_trouble

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
        await self._http.aclose()

    async def batch(
        self, requests: Iterable[Request], *, key: str | None = None
    ) -> BatchLLMResponse:
        """Up to 100 requests; waits for all of them."""
        body = b'{"requests":[' + b",".join(map(_line, requests)) + b"]}"
        prefer = {"Prefer": f"wait={WAIT_S}"}
        headers = {"Content-Type": "application/json", **prefer, **_key(key)}
        while True:
            answer = await self._request("POST", "/batch", content=body, headers=headers)
            if answer.status_code == httpx.codes.OK:  # else the wait was over, and the job goes on
                return _parse(BatchLLMResponse, answer)

    async def submit(
        self,
        requests: Iterable[Request],
        *,
        key: str | None = None,
        deadline_s: float | None = None,
        webhook_url: str | None = None,
    ) -> JobStatus:
        """Any number of requests, sent as they are iterated over: each time anew, should it have to
        be repeated. The same `key` and requests are the same job."""
        query = {"deadline_s": deadline_s, "webhook_url": webhook_url}
        headers = {"Content-Type": NDJSON, **_key(key)}
        answer = await self._request(
            "POST",
            "/jobs",
            body=lambda: _pieces(requests),
            params=_given(query),
            headers=headers,
        )
        return _parse(JobStatus, answer)

    async def status(self, job_id: str) -> JobStatus:
        return _parse(JobStatus, await self._request("GET", f"/jobs/{job_id}"))

    async def jobs(self, status: JobState | None = None) -> AsyncGenerator[JobSummary, None]:
        """Newest first."""
        cursor = None
        while True:
            query = _given({"status": status, "cursor": cursor, "limit": 100})
            page = _parse(JobList, await self._request("GET", "/jobs", params=query))
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def overview(self) -> Overview:
        """Lanes, workers, and in words what is wrong."""
        return _parse(Overview, await self._request("GET", "/overview"))

    async def cancel(self, job_id: str) -> JobStatus:
        return _parse(JobStatus, await self._request("DELETE", f"/jobs/{job_id}"))

    async def retry(self, job_id: str) -> JobStatus:
        """A new job of the items that failed."""
        return _parse(JobStatus, await self._request("POST", f"/jobs/{job_id}/retry"))

    async def results(
        self,
        job_id: str,
        *,
        order: Ordering = "index",
        status: Outcome | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[JobItem, None]:
        """Each as soon as it has ended; goes on where a connection broke."""
        after, patience = 0, self._patience()
        while True:
            query = _given({"order": order, "after": after, "follow": follow})
            try:
                async with self._http.stream(
                    "GET", f"/jobs/{job_id}/results", params=query
                ) as answer:
                    await check(answer)
                    async with aclosing(_lines(answer)) as lines:
                        async for line in lines:
                            item = JobItem.model_validate_json(line)
                            after, patience = item.cursor, self._patience()
                            if status is None or (status == "failed") == (item.error is not None):
                                yield item
                return  # noqa: TRY300 — of a generator
            except _Quiet:
                patience = self._patience()
            except (httpx.TransportError, Later) as error:
                await patience.wait(error)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Callable[[], AsyncIterator[bytes]] | None = None,
        **request: Any,  # noqa: ANN401 — passed on to httpx
    ) -> httpx.Response:
        patience = self._patience()
        while True:
            if body:
                request["content"] = body()
            try:
                answer = await self._http.request(method, path, **request)
                await check(answer)
            except (httpx.TransportError, Later) as error:
                await patience.wait(error)
            else:
                return answer

    def _patience(self) -> Patience:
        return Patience(self.url, self._patience_s, self._on_trouble)


class Client:
    """AsyncClient for programs that are not asynchronous, also where an event loop runs already."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._client = AsyncClient(url, api_key=api_key, patience_s=patience_s)
        self._starting: AbstractContextManager[BlockingPortal] = start_blocking_portal()

    def __enter__(self) -> Self:
        self._portal = self._starting.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.call(self._client.close)
        self._starting.__exit__(kind, error, traceback)

    def batch(self, requests: Iterable[Request], *, key: str | None = None) -> BatchLLMResponse:
        return self._call(lambda: self._client.batch(requests, key=key))

    def submit(
        self,
        requests: Iterable[Request],
        *,
        key: str | None = None,
        deadline_s: float | None = None,
        webhook_url: str | None = None,
    ) -> JobStatus:
        return self._call(
            lambda: self._client.submit(
                requests, key=key, deadline_s=deadline_s, webhook_url=webhook_url
            )
        )

    def status(self, job_id: str) -> JobStatus:
        return self._call(lambda: self._client.status(job_id))

    def jobs(self, status: JobState | None = None) -> Iterator[JobSummary]:
        return self._each(self._client.jobs(status))

    def overview(self) -> Overview:
        return self._call(self._client.overview)

    def cancel(self, job_id: str) -> JobStatus:
        return self._call(lambda: self._client.cancel(job_id))

    def retry(self, job_id: str) -> JobStatus:
        return self._call(lambda: self._client.retry(job_id))

    def results(
        self,
        job_id: str,
        *,
        order: Ordering = "index",
        status: Outcome | None = None,
        follow: bool = True,
    ) -> Iterator[JobItem]:
        return self._each(self._client.results(job_id, order=order, status=status, follow=follow))

    def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        return self._portal.call(call)

    def _each(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> T | None:
            return await anext(items, None)

        while (item := self._portal.call(following)) is not None:
            yield item


async def _lines(answer: httpx.Response) -> AsyncGenerator[str, None]:
    """Raises _Quiet."""
    try:
        async with aclosing(answer.aiter_lines()) as lines:  # type: ignore[type-var]
            async for line in lines:
                yield line
    except httpx.ReadTimeout:
        raise _Quiet from None


def _line(request: Request) -> bytes:
    if isinstance(request, bytes):
        return request.strip()
    if isinstance(request, LLMRequest):
        return request.model_dump_json(exclude_defaults=True).encode()
    return orjson.dumps(request)


async def _pieces(requests: Iterable[Request]) -> AsyncIterator[bytes]:
    piece = bytearray()
    for request in requests:
        piece += _line(request) + b"\n"
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _key(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or str(uuid4())}


def _given(query: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value is not None}


def _parse(model: type[Model], answer: httpx.Response) -> Model:
    return model.model_validate_json(answer.content)
