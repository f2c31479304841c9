"""A client for programs and for the command line: typed, and safe to repeat.

with Client() as client:
    job = client.submit(requests)
    for item in client.results(job.job_id):
        print(item.index, item.content)
"""

import asyncio
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
from tempfile import SpooledTemporaryFile
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
import orjson
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import BaseModel, ValidationError

from cli.patience import RETRY_S, Later, OrchestratorError, Patience, check
from shared.models import (
    BatchLLMResponse,
    Job,
    JobItem,
    JobList,
    JobStatus,
    JobSummary,
    LLMRequest,
)
from shared.monitoring.models import Overview

URL = "http://localhost:8000"
NDJSON = "application/x-ndjson"
PIECE_BYTES = 64 * 1024
KEPT_BYTES = 16 * 1024 * 1024  # of an iterator's lines, in memory
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
        key = (api_key or os.environ.get("ORCHESTRATOR_API_KEY") or "").strip()
        self.url = url or os.environ.get("ORCHESTRATOR_URL") or URL
        _check(self.url, key)
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
            asked_at = monotonic()
            answer = await self._request("POST", "/batch", content=body, headers=headers)
            if answer.status_code == httpx.codes.OK:  # else the wait was over, and the job goes on
                return _parse(BatchLLMResponse, answer)
            await asyncio.sleep(max(0, asked_at + RETRY_S - monotonic()))  # it may not wait at all

    async def submit(
        self,
        requests: Iterable[Request],
        *,
        key: str | None = None,
        deadline_s: float | None = None,
        webhook_url: str | None = None,
    ) -> Job:
        """Any number of requests, sent as they are iterated over; what an iterator gives is kept,
        past 16 MB in a file, until all has arrived. The same key and requests are the same job."""
        query = {"deadline_s": deadline_s, "webhook_url": webhook_url}
        if isinstance(requests, Iterator):
            requests = _Kept(requests)
        headers = {"Content-Type": NDJSON, **_key(key)}
        answer = await self._request(
            "POST",
            "/jobs",
            body=lambda: _pieces(requests),
            params=_given(query),
            headers=headers,
        )
        return _parse(Job, answer)

    async def status(self, job_id: str) -> Job:
        return _parse(Job, await self._request("GET", _path(job_id)))

    async def jobs(self, status: JobStatus | None = None) -> AsyncGenerator[JobSummary, None]:
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

    async def cancel(self, job_id: str) -> Job:
        return _parse(Job, await self._request("DELETE", _path(job_id)))

    async def retry(self, job_id: str) -> Job:
        """A new job of the items that failed."""
        return _parse(Job, await self._request("POST", _path(job_id, "/retry")))

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
                    "GET", _path(job_id, "/results"), params=query
                ) as answer:
                    await check(answer)
                    async with aclosing(_items(answer)) as items:
                        async for item in items:
                            after, patience = item.cursor, self._patience()
                            if status is None or (status == "failed") == (item.error is not None):
                                yield item
                return  # noqa: TRY300 — of a generator
            except _Quiet:
                patience = self._patience()
            except (httpx.TransportError, Later) as error:
                await patience.wait(error)

    async def failures(self, job_id: str, most: int) -> list[JobItem]:
        """The first that have failed, as they ended; none is waited for."""
        query = {"status": "failed", "order": "completion", "follow": "false", "limit": str(most)}
        answer = await self._request("GET", _path(job_id, "/results"), params=query)
        return [JobItem.model_validate_json(line) for line in answer.content.splitlines()]

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


class _Kept:
    """The lines of what can be iterated over only once, for the case that they are sent again."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests = requests
        self._file = SpooledTemporaryFile(KEPT_BYTES)  # noqa: SIM115 — as long as this

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        yield from self._file
        for request in self._requests:
            line = _line(request)
            self._file.write(line + b"\n")
            yield line


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
    ) -> Job:
        """An iterator is read first, in this thread: it may use this client."""
        if isinstance(requests, Iterator):
            requests = _Kept(requests)
            for _ in requests:
                pass
        return self._call(
            lambda: self._client.submit(
                requests, key=key, deadline_s=deadline_s, webhook_url=webhook_url
            )
        )

    def status(self, job_id: str) -> Job:
        return self._call(lambda: self._client.status(job_id))

    def jobs(self, status: JobStatus | None = None) -> Iterator[JobSummary]:
        return self._each(self._client.jobs(status))

    def overview(self) -> Overview:
        return self._call(self._client.overview)

    def cancel(self, job_id: str) -> Job:
        return self._call(lambda: self._client.cancel(job_id))

    def retry(self, job_id: str) -> Job:
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


async def _items(answer: httpx.Response) -> AsyncGenerator[JobItem, None]:
    """Not httpx's lines, which end at characters that an answer may have, too. Raises _Quiet,
    OrchestratorError."""
    rest = b""
    try:
        async with aclosing(answer.aiter_bytes()) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield JobItem.model_validate_json(line)
    except ValidationError:
        raise OrchestratorError(f"what answers at {answer.url} is no orchestrator") from None
    except httpx.ReadTimeout:
        raise _Quiet from None


def _check(url: str, key: str) -> None:
    """Raises OrchestratorError for what no patience would help."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL()
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise OrchestratorError(f"the API's URL should be http://… or https://…, not {url!r}")
    if not (key.isascii() and key.isprintable()):
        raise OrchestratorError("an API key has only printable ASCII characters")


def _path(job_id: str, of_it: str = "") -> str:
    return f"/jobs/{quote(job_id or ' ', safe='')}{of_it}"


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
    try:
        return model.model_validate_json(answer.content)
    except ValidationError:
        raise OrchestratorError(f"what answers at {answer.url} is no orchestrator") from None
