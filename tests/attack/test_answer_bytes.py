"""Tests what a provider can cost a worker with an answer."""

import asyncio
import tracemalloc
import zlib
from dataclasses import replace

import httpx
import pytest
from support.raw_server import http, raw

from shared.memory_budget import MemoryBudget
from shared.models import ErrorCode
from shared.providers import PROVIDERS
from shared.settings import ProviderSettings
from worker.providers.client import call
from worker.providers.connections import http_client
from worker.providers.endpoint import endpoint
from worker.providers.errors import ProviderError

MIB = 1024 * 1024
REQUEST = {
    "provider": "ollama",
    "model": "m",
    "chat": {"messages": [{"role": "user", "content": "x"}]},
}
BOMBS = 12


@pytest.mark.parametrize("wbits", [-zlib.MAX_WBITS, zlib.MAX_WBITS, 16 + zlib.MAX_WBITS])
async def test_bombs_are_unpacked_only_within_the_limit(wbits: int) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    bomb = b"".join([*(packer.compress(b" " * MIB) for _ in range(100)), packer.flush()])
    coding = "gzip" if wbits > zlib.MAX_WBITS else "deflate"
    client = http_client(BOMBS)
    try:
        async with raw(http(bomb, f"Content-Encoding: {coding}")) as server:
            row = replace(PROVIDERS["ollama"], base_url=server.url)
            there = endpoint(row, ProviderSettings(), timeout_s=60)
            there = replace(there, memory=MemoryBudget(256 * MIB))  # for four of these answers
            tracemalloc.start()
            errors = await asyncio.gather(
                *(_failure(client, there) for _ in range(BOMBS)),
            )
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    finally:
        await client.aclose()

    assert errors == [ErrorCode.ANSWER_TOO_LARGE] * BOMBS
    assert server.connections == BOMBS
    assert peak < 4 * 20 * MIB + BOMBS * 2 * MIB


async def _failure(client: httpx.AsyncBaseTransport, there: object) -> ErrorCode:
    with pytest.raises(ProviderError) as found:
        await call(client, there, REQUEST, timeout_s=60)  # type: ignore[arg-type]
    return found.value.code


@pytest.mark.parametrize(("count", "is_refused"), [(3, False), (200_000, True)])
async def test_informational_responses_do_not_silence_a_worker(
    count: int,
    is_refused: bool,  # noqa: FBT001 — parametrized
) -> None:
    """RFC 9110, 15.2: a server may send any number of these before its response."""
    answer = {"message": {"role": "assistant", "content": "x"}, "done": True}
    client = http_client(1)
    try:
        async with raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * count, http(answer)) as server:
            row = replace(PROVIDERS["ollama"], base_url=server.url)
            there = endpoint(row, ProviderSettings(), timeout_s=60)
            if is_refused:
                assert await _failure(client, there) == ErrorCode.CONNECTION_ERROR
            else:
                found = await call(client, there, REQUEST, timeout_s=60)  # type: ignore[arg-type]
                assert found.content == "x"
    finally:
        await client.aclose()

    assert server.connections == 1
