"""Tests connections to providers: broken, slow, cancelled and limited."""

import asyncio
import gzip

import httpx
import pytest
from support.provider_calls import both_providers, chat, facts, failure, with_key
from support.raw_server import http, raw
from support.stack import eventually

from cli.simulator import Simulator
from shared.models import ErrorCode
from shared.queue.verdict import Verdict
from worker.providers.client import call
from worker.providers.connections import http_client
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError


@pytest.mark.parametrize(
    ("answer", "code", "status_code"),
    [
        (b"HTTP/1.1 abc\r\n\r\n", ErrorCode.CONNECTION_ERROR, None),
        (b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n", ErrorCode.CONNECTION_ERROR, None),
        (b"220 smtp.test ESMTP\r\n", ErrorCode.CONNECTION_ERROR, None),
        (http(b"", "X-Long: " + "x" * 100_000), ErrorCode.CONNECTION_ERROR, None),
        (http(b"", "Content-Length: 7"), ErrorCode.CONNECTION_ERROR, None),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi",
            ErrorCode.CONNECTION_ERROR,
            None,
        ),
        (http(b"", status="204 No Content"), ErrorCode.BAD_RESPONSE, 204),
        (http(b"no gzip", "Content-Encoding: gzip"), ErrorCode.BAD_RESPONSE, 200),
        (
            http(gzip.compress(b"{}" * 99)[:-9], "Content-Encoding: gzip"),
            ErrorCode.BAD_RESPONSE,
            200,
        ),
        (http(b"", status="999 Odd"), ErrorCode.PROVIDER_ERROR, 999),
    ],
    ids=[
        "no-status",
        "low-status",
        "other-protocol",
        "long-header",
        "two-lengths",
        "bad-chunk",
        "no-content",
        "no-gzip",
        "half-a-gzip",
        "odd-status",
    ],
)
async def test_broken_http(
    client: httpx.AsyncBaseTransport, answer: bytes, code: ErrorCode, status_code: int | None
) -> None:
    async with raw(answer) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    verdict = Verdict.UNFINISHED if code is ErrorCode.BAD_RESPONSE else Verdict.TRANSIENT
    assert (error.verdict, error.code, error.status_code) == (verdict, code, status_code)


async def test_reason_phrase_that_is_not_utf_8(client: httpx.AsyncBaseTransport) -> None:
    answer = b"HTTP/1.1 503 \xdcberlastet\r\nContent-Length: 0\r\n\r\n"
    async with raw(answer) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    assert error.verdict is Verdict.TRANSIENT


@both_providers
@pytest.mark.parametrize(
    ("model", "reason"),
    [("sim-drop", "ServerDisconnectedError"), ("sim-half", "ClientPayloadError")],
)
async def test_broken_connection(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    provider: str,
    model: str,
    reason: str,
) -> None:
    error = await failure(client, endpoints[provider], chat(model=model))
    text = f"the connection to {provider} failed ({reason})"
    assert facts(error) == facts(ProviderError(Verdict.TRANSIENT, ErrorCode.CONNECTION_ERROR, text))


async def test_nobody_listens(client: httpx.AsyncBaseTransport) -> None:
    async with raw() as server:
        pass
    error = await failure(client, with_key("openrouter", server.url), chat())
    text = "the connection to openrouter failed (ClientConnectorError)"
    assert facts(error) == facts(
        ProviderError(Verdict.UNREACHABLE, ErrorCode.CONNECTION_ERROR, text)
    )


@both_providers
@pytest.mark.parametrize("model", ["sim-hang", "sim-drip"])
async def test_timeout_covers_the_whole_exchange(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], provider: str, model: str
) -> None:
    error = await failure(client, endpoints[provider], chat(model=model), timeout_s=0.25)
    expected = ProviderError(
        Verdict.TRANSIENT, ErrorCode.TIMEOUT, f"{provider} did not answer in 0.25 s"
    )
    assert facts(error) == facts(expected)


async def test_timeout_covers_the_wait_for_a_connection(endpoints: dict[str, Endpoint]) -> None:
    async with http_client(max_connections=1) as client:
        request = chat(model="sim-hang")
        calls = [failure(client, endpoints["ollama"], request, timeout_s=0.1) for _ in range(2)]
        errors = await asyncio.gather(*calls)
    assert [error.code for error in errors] == [ErrorCode.TIMEOUT] * 2


@both_providers
async def test_cancelled_call_closes_the_connection(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    simulator: Simulator,
    provider: str,
) -> None:
    async def in_flight() -> bool:
        return bool(simulator.stats()["in_flight"])

    async def aborted() -> bool:
        return bool(simulator.stats()["aborted"])

    request = chat(model="sim-latency-60000")
    running = asyncio.create_task(call(client, endpoints[provider], request, timeout_s=60))
    await eventually(in_flight, deadline_s=5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await eventually(aborted, deadline_s=5)


async def test_timed_out_call_closes_the_connection(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], simulator: Simulator
) -> None:
    async def aborted() -> bool:
        return bool(simulator.stats()["aborted"])

    await failure(client, endpoints["ollama"], chat(model="sim-hang"), timeout_s=0.1)
    await eventually(aborted, deadline_s=5)


async def test_connections_are_limited(
    endpoints: dict[str, Endpoint], simulator: Simulator
) -> None:
    request = chat(model="sim-latency-20")
    async with http_client(max_connections=2) as client:
        calls = [call(client, endpoints["ollama"], request, timeout_s=5) for _ in range(6)]
        await asyncio.gather(*calls)
    assert (simulator.stats()["total"], simulator.stats()["peak"]) == (6, 2)
