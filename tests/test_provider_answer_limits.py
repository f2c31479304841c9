"""Tests that answers of providers use a limited amount of memory."""

import gzip
import tracemalloc
from collections.abc import Callable, Iterator

import httpx
import pytest
from support.provider_calls import both_providers, chat, facts, failure, with_key
from support.raw_server import http, raw

from shared.models import ErrorCode
from shared.queue.item_request import ItemRequest
from shared.queue.verdict import Verdict
from shared.settings import MAX_ANSWER_BYTES
from worker.providers.answer_limits import MAX_STREAM_BYTES
from worker.providers.client import call
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError

MAX_MEMORY = 5 * MAX_ANSWER_BYTES


@both_providers
async def test_huge_answer_is_refused(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], provider: str
) -> None:
    error = await failure(client, endpoints[provider], chat(model="sim-huge"))
    expected = ProviderError(
        Verdict.REJECTED,
        ErrorCode.ANSWER_TOO_LARGE,
        f"{provider} sent more than 16777216 bytes (MAX_ANSWER_BYTES)",
        status_code=200,
    )
    assert facts(error) == facts(expected)


@pytest.fixture
def memory() -> Iterator[Callable[[], int]]:
    """Returns a function that returns the peak of memory in bytes since the start of the test."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    yield lambda: tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_large_answer_is_not_read_further(
    client: httpx.AsyncBaseTransport, memory: Callable[[], int], status: str
) -> None:
    chunks = [b"x" * 65536] * 4096
    head = f"HTTP/1.1 {status}\r\nContent-Length: {sum(map(len, chunks))}\r\n\r\n".encode()
    async with raw(head, *chunks) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    expected = ProviderError(
        Verdict.REJECTED if status.startswith("200") else Verdict.TRANSIENT,
        ErrorCode.ANSWER_TOO_LARGE if status.startswith("200") else ErrorCode.BAD_RESPONSE,
        "openrouter sent more than 16777216 bytes (MAX_ANSWER_BYTES)",
        status_code=int(status[:3]),
    )
    assert facts(error) == facts(expected)
    assert memory() < MAX_MEMORY


async def test_a_large_stream_is_not_read_further(client: httpx.AsyncBaseTransport) -> None:
    comments = [b": " + b"x" * 65533 + b"\n"] * (MAX_STREAM_BYTES // 65536)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    request = chat() | ItemRequest(provider="openrouter", model="m", stream={})
    events: list[bytes] = []
    async with raw(head, *comments, b"data: {}\n\n", b"data: {}\n\n") as server:
        there = with_key("openrouter", server.url)
        with pytest.raises(ProviderError) as caught:
            await call(client, there, request, timeout_s=30, emit=events.append)
    expected = ProviderError(
        Verdict.REJECTED,
        ErrorCode.ANSWER_TOO_LARGE,
        "openrouter sent a stream of more than 33554432 bytes",
        status_code=200,
    )
    assert (facts(caught.value), events) == (facts(expected), [])


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return gzip.compress(b"x" * 100_000_000)


@pytest.mark.parametrize("layers", [1, 2])
async def test_gzip_bomb_is_not_unpacked(
    client: httpx.AsyncBaseTransport, bomb: bytes, memory: Callable[[], int], layers: int
) -> None:
    body = bomb if layers == 1 else gzip.compress(bomb)
    encoding = ", ".join(["gzip"] * layers)
    async with raw(http(body, f"Content-Encoding: {encoding}")) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    # Two layers are not unpacked at all.
    expected = (
        (Verdict.REJECTED, ErrorCode.ANSWER_TOO_LARGE)
        if layers == 1
        else (Verdict.UNFINISHED, ErrorCode.BAD_RESPONSE)
    )
    assert (error.verdict, error.code) == expected
    assert memory() < MAX_MEMORY
