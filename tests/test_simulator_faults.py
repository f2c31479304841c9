"""Tests the faults and the latency that the simulator causes."""

import asyncio
import random
import statistics
from collections.abc import AsyncIterator

import httpx
import orjson
import pytest
from support.simulated import (
    PATHS,
    ask,
    both_dialects,
    chat_body,
    connected,
    exchanged,
    ledger,
    provider,
    raw_request,
    stats,
    stats_when,
)

from cli.simulator import Behaviour
from cli.simulator.behaviour import draw_latency_ms, draw_plan, fault_shares, load_behaviour
from cli.simulator.faults import Plan, SimulatedFault, parse_model


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with provider() as client:
        yield client


@pytest.mark.parametrize(
    ("model", "plan"),
    [
        ("gpt-4o-mini", None),
        ("llama-hang", None),
        ("sim-ok", None),
        ("sim-hanging", None),
        ("sim-status-200", None),
        ("sim-status-400", Plan(SimulatedFault.STATUS, 400)),
        ("openrouter/sim-status-404", Plan(SimulatedFault.STATUS, 404)),
        ("ollama/x/sim-503:latest", Plan(SimulatedFault.STATUS, 503)),
        ("sim-429x2", Plan(SimulatedFault.STATUS, 429, first=2)),
        ("sim-500x13", Plan(SimulatedFault.STATUS, 500, first=13)),
        ("sim-error-object-429", Plan(SimulatedFault.ERROR_OBJECT, 429)),
        ("sim-latency-250", Plan(latency_ms=250)),
        ("sim-latency-400", Plan(latency_ms=400)),
        ("sim-latency-5-503x1", Plan(SimulatedFault.STATUS, 503, first=1, latency_ms=5)),
        ("sim-half-sim-latency-0", Plan(SimulatedFault.HALF, latency_ms=0)),
        *[
            (f"sim-{fault}", Plan(fault))
            for fault in SimulatedFault
            if fault not in (SimulatedFault.STATUS, SimulatedFault.ERROR_OBJECT)
        ],
    ],
)
def test_parse_model(model: str, plan: Plan | None) -> None:
    assert parse_model(model) == plan


@pytest.mark.parametrize(
    ("model", "dialect", "error"),
    [
        ("sim-status-400", "openai", {"code": 400, "message": "Bad Request"}),
        ("sim-status-404", "openai", {"code": 404, "message": "Not Found"}),
        ("sim-status-599", "openai", {"code": 599, "message": ""}),
        ("sim-status-400", "ollama", "Bad Request"),
        (
            "sim-status-404",
            "ollama",
            'model "sim-status-404" not found, try pulling it first',
        ),
    ],
)
async def test_status(client: httpx.AsyncClient, model: str, dialect: str, error: object) -> None:
    response = await ask(client, model, dialect=dialect)
    assert (response.status_code, response.json()) == (int(model[-3:]), {"error": error})


@pytest.mark.parametrize(
    ("dialect", "error"),
    [
        ("openai", {"code": 502, "message": "Bad Gateway"}),
        ("ollama", "Bad Gateway"),
    ],
)
async def test_error_object(client: httpx.AsyncClient, dialect: str, error: object) -> None:
    response = await ask(client, "sim-error-object-502", dialect=dialect)
    assert (response.status_code, response.json()) == (200, {"error": error})


@both_dialects
async def test_garbage(client: httpx.AsyncClient, dialect: str) -> None:
    response = await ask(client, "sim-garbage", dialect=dialect)
    assert response.status_code == 200
    with pytest.raises(ValueError, match="can't decode"):
        response.json()


@both_dialects
async def test_html(client: httpx.AsyncClient, dialect: str) -> None:
    response = await ask(client, "sim-html", dialect=dialect)
    assert (response.status_code, response.text[:6]) == (200, "<html>")
    assert response.headers["content-type"] == "text/html; charset=utf-8"


@both_dialects
async def test_huge(client: httpx.AsyncClient, dialect: str) -> None:
    response = await ask(client, "sim-huge", dialect=dialect)
    assert len(response.content) > 10_000_000


@both_dialects
async def test_drop(client: httpx.AsyncClient, dialect: str) -> None:
    assert await exchanged(client, raw_request(chat_body("sim-drop"), dialect)) == b""
    assert [call["outcome"] for call in await ledger(client)] == ["drop"]


@both_dialects
async def test_half(client: httpx.AsyncClient, dialect: str) -> None:
    answer = await exchanged(client, raw_request(chat_body("sim-half"), dialect))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert len(body) == int(head.partition(b"Length: ")[2]) // 2


@both_dialects
async def test_drip(client: httpx.AsyncClient, dialect: str) -> None:
    async with connected(client, raw_request(chat_body("sim-drip"), dialect)) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        assert [await reader.read(1000) for _ in range(2)] == [b"{", b'"']
        assert (await stats(client))["in_flight"] == 1


async def test_drip_ends_with_a_whole_answer(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.simulator.connection._DRIP_INTERVAL_S", 0)
    body = (await ask(client, "sim-drip")).json()
    assert body["choices"][0]["message"]["content"] == "echo: hello there"
    assert (await stats(client))["in_flight"] == 0


@both_dialects
async def test_hang_lasts_until_the_client_disconnects(
    client: httpx.AsyncClient, dialect: str
) -> None:
    async with connected(client, raw_request(chat_body("sim-hang"), dialect)):
        await stats_when(client, lambda now: now["in_flight"] == 1)
        assert [(call["end_ms"], call["outcome"]) for call in await ledger(client)] == [(None,) * 2]
    figures = await stats_when(client, lambda now: now["in_flight"] == 0)
    assert (figures["aborted"], figures["answers"]) == (1, {})
    assert [call["outcome"] for call in await ledger(client)] == ["hang"]


async def test_aborted_call_is_counted(client: httpx.AsyncClient) -> None:
    async with connected(client, raw_request(chat_body("sim-latency-60000"))):
        await stats_when(client, lambda now: now["in_flight"] == 1)
    figures = await stats_when(client, lambda now: now["in_flight"] == 0)
    assert (figures["aborted"], figures["answers"]) == (1, {})
    (call,) = await ledger(client)
    assert call["outcome"] == "aborted"
    assert call["end_ms"] >= call["start_ms"]


async def test_aborted_call_is_not_answered_later(client: httpx.AsyncClient) -> None:
    async with connected(client, raw_request(chat_body("sim-latency-300"))):
        await stats_when(client, lambda now: now["in_flight"] == 1)
    await stats_when(client, lambda now: now["in_flight"] == 0)
    await ask(client, "sim-latency-310", "outlives the first one's latency")
    figures = await stats(client)
    assert (figures["in_flight"], figures["answers"]) == (0, {"200": 1})


async def test_first_calls_of_an_item_fail() -> None:
    async with provider(Behaviour(retry_after="7")) as client:
        answers = [await ask(client, "sim-429x2", text) for text in ("a", "a", "b", "a")]
    found = [(answer.status_code, answer.headers.get("retry-after")) for answer in answers]
    assert found == [(429, "7"), (429, "7"), (429, "7"), (200, None)]


@pytest.mark.parametrize(
    ("status", "header"), [(429, "Fri, 31 Dec 2100 23:59:59 GMT"), (503, "2"), (500, None)]
)
async def test_retry_after(status: int, header: str | None) -> None:
    async with provider(Behaviour(retry_after=header or "1")) as client:
        answer = await ask(client, f"sim-status-{status}")
    assert answer.headers.get("retry-after") == header


@pytest.mark.parametrize(
    ("field", "plans"),
    [
        ("rate_429", {Plan(SimulatedFault.STATUS, 429)}),
        ("rate_500", {Plan(SimulatedFault.STATUS, 500)}),
        ("rate_503", {Plan(SimulatedFault.STATUS, 503)}),
        ("rate_hang", {Plan(SimulatedFault.HANG)}),
        ("rate_drop", {Plan(SimulatedFault.DROP)}),
        ("rate_half", {Plan(SimulatedFault.HALF)}),
        ("rate_garbage", {Plan(SimulatedFault.GARBAGE)}),
        ("rate_html", {Plan(SimulatedFault.HTML)}),
        ("rate_huge", {Plan(SimulatedFault.HUGE)}),
        ("rate_drip", {Plan(SimulatedFault.DRIP)}),
        (
            "rate_error_object",
            {Plan(SimulatedFault.ERROR_OBJECT, 429), Plan(SimulatedFault.ERROR_OBJECT, 502)},
        ),
    ],
)
def test_each_rate_draws_its_fault(field: str, plans: set[Plan]) -> None:
    shares = fault_shares(load_behaviour(orjson.dumps({field: 1})))
    assert {draw_plan(shares, random.Random(n)) for n in range(20)} == plans


def test_rates_are_shares_of_the_calls() -> None:
    shares = fault_shares(Behaviour(rate_429=0.2, rate_500=0.3))
    rng = random.Random(1)
    statuses = [draw_plan(shares, rng).status for _ in range(10_000)]
    found = [statuses.count(status) / 10_000 for status in (429, 500, 200)]
    assert found == pytest.approx([0.2, 0.3, 0.5], abs=0.02)


async def test_rates_apply_to_calls(client: httpx.AsyncClient) -> None:
    await client.put("/_sim/config", json={"rate_503": 1})
    assert (await ask(client)).status_code == 503
    assert (await ask(client, "sim-status-400")).status_code == 400
    assert (await ask(client, "sim-latency-0")).status_code == 200


async def test_same_seed_repeats_the_choices(client: httpx.AsyncClient) -> None:
    runs = []
    for seed in (5, 5, 6):
        await client.put("/_sim/config", json={"rate_500": 0.5, "seed": seed})
        runs.append([(await ask(client)).status_code for _ in range(40)])
    assert runs[0] == runs[1] != runs[2]


def test_spread_latency_is_uniform_and_never_negative() -> None:
    behaviour = Behaviour(latency_ms=10, latency_spread_ms=20)
    rng = random.Random(1)
    drawn = [draw_latency_ms(behaviour, rng) for _ in range(2000)]
    assert min(drawn) == 0
    assert 29 < max(drawn) <= 30


def test_p95_latency_is_lognormal() -> None:
    behaviour = Behaviour(latency_ms=100, latency_p95_ms=400)
    rng = random.Random(1)
    drawn = statistics.quantiles([draw_latency_ms(behaviour, rng) for _ in range(20_000)], n=20)
    assert (drawn[9], drawn[18]) == pytest.approx((100, 400), rel=0.05)


async def test_latency_is_waited() -> None:
    async with provider(Behaviour(latency_ms=30)) as client:
        await ask(client)
        await ask(client, "sim-latency-60")
        waited = [call["end_ms"] - call["start_ms"] for call in await ledger(client)]
    assert waited[0] >= 29
    assert waited[1] >= 59


async def test_dialect_has_its_own_behaviour() -> None:
    async with provider(Behaviour(by_dialect={"ollama": Behaviour(limit=1)})) as client:
        calls = [asyncio.create_task(ask(client, "sim-hang", dialect=dialect)) for dialect in PATHS]
        await stats_when(client, lambda now: now["in_flight"] == 2)
        assert (await ask(client)).status_code == 200
        assert (await ask(client, dialect="ollama")).status_code == 429
        for call in calls:
            call.cancel()
