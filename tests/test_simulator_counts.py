"""Tests what the simulator counts, limits and keeps of the calls that it received."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from support.simulated import (
    NO_CALLS,
    PATHS,
    ask,
    chat_body,
    connected,
    ledger,
    provider,
    raw_request,
    stats,
    stats_when,
)

from cli.simulator import Behaviour, Simulator
from cli.simulator.chat import item_of


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with provider() as client:
        yield client


async def test_peak_counts_concurrent_calls(client: httpx.AsyncClient) -> None:
    calls = [asyncio.create_task(ask(client, "sim-hang", f"{n}")) for n in range(12)]
    calls += [asyncio.create_task(ask(client, "sim-hang", dialect="ollama")) for _ in range(5)]
    await stats_when(client, lambda now: now["in_flight"] == 17)
    for call in calls:
        call.cancel()
    figures = await stats_when(client, lambda now: now["in_flight"] == 0)
    await ask(client)
    assert (figures["total"], figures["peak"], figures["aborted"]) == (17, 17, 17)
    assert (await stats(client))["by_dialect"] == {
        **NO_CALLS,
        "openai": {"total": 13, "in_flight": 0, "peak": 12},
        "ollama": {"total": 5, "in_flight": 0, "peak": 5},
    }


async def test_call_over_the_limit_gets_429() -> None:
    async with provider(Behaviour(limit=2, retry_after="3")) as client:
        calls = [asyncio.create_task(ask(client, "sim-hang", dialect=dialect)) for dialect in PATHS]
        await stats_when(client, lambda now: now["in_flight"] == 2)
        refused = await ask(client)
        for call in calls:
            call.cancel()
        figures = await stats_when(client, lambda now: now["in_flight"] == 0)
        assert (await ask(client)).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
    assert (figures["over_limit"], figures["peak"], figures["total"]) == (1, 2, 3)


async def test_call_that_follows_a_hang_up_is_within_the_limit() -> None:
    """The event loop reports the call before the disconnect, because the call began earlier."""
    async with Simulator(Behaviour(limit=1)) as simulator, httpx.AsyncClient() as client:
        address = (httpx.URL(simulator.url).host, httpx.URL(simulator.url).port)
        client.base_url = httpx.URL(simulator.url)
        with (
            socket.create_connection(address) as second,
            socket.create_connection(address) as first,
        ):
            first.sendall(raw_request(chat_body("sim-hang")))
            await stats_when(client, lambda now: now["in_flight"] == 1)
            request = raw_request(chat_body())
            second.sendall(request[:10])
            first.close()
            second.sendall(request[10:])
            figures = await stats_when(client, lambda now: now["total"] == 2)
    assert (figures["over_limit"], figures["peak"], figures["in_flight"]) == (0, 1, 0)
    assert (figures["aborted"], figures["answers"]) == (1, {"200": 1})


async def test_calls_and_answers_are_counted(client: httpx.AsyncClient) -> None:
    for text in ("a", "b", "a"):
        await ask(client, text=text)
    await ask(client, "sim-status-500", "c")
    assert await stats(client) == {
        "total": 4,
        "in_flight": 0,
        "peak": 1,
        "aborted": 0,
        "aborted_loads": 0,
        "over_limit": 0,
        "answers": {"200": 3, "500": 1},
        "by_dialect": {
            **NO_CALLS,
            "openai": {"total": 4, "in_flight": 0, "peak": 1},
        },
        "by_model": {
            "m": {"total": 3, "in_flight": 0, "peak": 1, "answered": 3, "refused": 0},
            "sim-status-500": {"total": 1, "in_flight": 0, "peak": 1, "answered": 0, "refused": 1},
        },
        "by_key": {"": {"total": 4, "in_flight": 0, "peak": 1, "answered": 3, "refused": 1}},
        "budgets": [],
        "calls": {item_of("a"): 2, item_of("b"): 1, item_of("c"): 1},
    }


async def test_ledger_lists_the_calls_in_order(client: httpx.AsyncClient) -> None:
    await ask(client, text="a")
    await ask(client, "sim-status-500", "b", "ollama")
    calls = await ledger(client)
    times = [call.pop(name) for call in calls for name in ("start_ms", "end_ms")]
    assert times == sorted(times)
    assert len({call.pop("client") for call in calls}) == 1  # one kept-alive connection
    assert calls == [
        {"item": item_of("a"), "dialect": "openai", "model": "m", "key": "", "outcome": 200},
        {
            "item": item_of("b"),
            "dialect": "ollama",
            "model": "sim-status-500",
            "key": "",
            "outcome": 500,
        },
    ]


async def test_ledger_can_be_switched_off() -> None:
    async with provider(Behaviour(ledger=False)) as client:
        await ask(client)
        assert (await ledger(client), (await stats(client))["total"]) == ([], 1)


async def test_reset_keeps_calls_in_flight(client: httpx.AsyncClient) -> None:
    await ask(client)
    async with connected(client, raw_request(chat_body("sim-hang"))):
        before = await stats_when(client, lambda now: now["in_flight"] == 1)
        await client.post("/_sim/reset")
        after = await stats(client)
        assert (await ledger(client), (await client.get("/_sim/last")).json()) == ([], {})
    assert (before["total"], after["total"], after["answers"], after["calls"]) == (2, 0, {}, {})
    assert (after["in_flight"], after["peak"]) == (1, 1)
    await stats_when(client, lambda now: now["in_flight"] == 0)


async def test_last_request_of_each_dialect_is_kept(client: httpx.AsyncClient) -> None:
    for dialect, path in PATHS.items():
        for text in ("one", "two"):
            body = chat_body(text=f"{dialect} {text}")
            await client.post(path, json=body, headers={"X-Title": text})
    last = (await client.get("/_sim/last")).json()
    assert {dialect: last[dialect]["headers"]["x-title"] for dialect in last} == {
        "openai": "two",
        "ollama": "two",
    }
    assert last["ollama"]["body"] == chat_body(text="ollama two")


async def test_calls_are_kept_byte_for_byte() -> None:
    body = b'{ "model":"m" ,"messages":[{"content":"a"}],"x":1.0E+2}'
    async with (
        Simulator() as simulator,
        httpx.AsyncClient(base_url=simulator.url) as client,
    ):
        await client.post("/v1/chat/completions", content=body)
        [call] = simulator.received()
        [shown] = (await client.get("/_sim/received")).json()

    assert (call.path, call.body) == ("/v1/chat/completions", body)
    assert shown["body"].encode() == body


async def test_without_a_ledger_no_call_is_kept() -> None:
    async with (
        Simulator(Behaviour(ledger=False)) as simulator,
        httpx.AsyncClient(base_url=simulator.url) as client,
    ):
        await client.post("/v1/chat/completions", json=chat_body())

        assert simulator.received() == []
