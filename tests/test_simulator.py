import asyncio
import random
import signal
import socket
import statistics
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from support.simulated import PATHS, ask, chat_body, ledger, provider, stats, stats_when

from cli.simulator import Behaviour, Simulator
from cli.simulator.behaviour import draw_latency_ms, draw_plan, fault_shares, load_behaviour
from cli.simulator.chat import item_of
from cli.simulator.connection import MAX_BODY_BYTES
from cli.simulator.dialects import DIALECTS
from cli.simulator.faults import Plan, SimulatedFault, parse_model

NO_CALLS = {name: {"total": 0, "in_flight": 0, "peak": 0} for name in DIALECTS}
both_dialects = pytest.mark.parametrize("dialect", ["openai", "ollama"])


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with provider() as client:
        yield client


def raw_request(body: dict[str, Any], dialect: str = "openai", headers: str = "") -> bytes:
    content = orjson.dumps(body)
    head = f"POST {PATHS[dialect]} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


@asynccontextmanager
async def connected(
    client: httpx.AsyncClient, data: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Opens a connection and sends `data`."""
    url = client.base_url
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            writer.write(data)
            await writer.drain()
            yield reader, writer
        finally:
            writer.close()


async def exchanged(client: httpx.AsyncClient, data: bytes) -> bytes:
    """Sends `data`, and returns everything that the simulator sends until it disconnects."""
    async with connected(client, data) as (reader, _):
        return await reader.read()


async def test_openai_completion(client: httpx.AsyncClient) -> None:
    response = await ask(client)
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert body.pop("id").startswith("gen-")
    assert isinstance(body.pop("created"), int)
    assert body == {
        "object": "chat.completion",
        "model": "m",
        "provider": "Simulator",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "echo: hello there"},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 4,
            "completion_tokens": 3,
            "total_tokens": 7,
            "cost": 0.000007,
        },
    }


async def test_ollama_completion(client: httpx.AsyncClient) -> None:
    body = (await ask(client, "sim-latency-3", dialect="ollama")).json()
    assert body.pop("created_at").endswith("Z")
    assert body == {
        "model": "sim-latency-3",
        "message": {"role": "assistant", "content": "echo: hello there"},
        "done": True,
        "done_reason": "stop",
        "total_duration": 3_000_000,
        "load_duration": 0,
        "prompt_eval_count": 4,
        "prompt_eval_duration": 0,
        "eval_count": 3,
        "eval_duration": 3_000_000,
    }


@both_dialects
@pytest.mark.parametrize("text", ["", "Zürich 東京 🎉\u0000\u2028", 'quote " and \\', "  spaced\n"])
async def test_text_is_echoed_unchanged(client: httpx.AsyncClient, dialect: str, text: str) -> None:
    body = (await ask(client, text=text, dialect=dialect)).json()
    message = body["choices"][0]["message"] if dialect == "openai" else body["message"]
    assert message["content"] == f"echo: {text}"


async def test_text_parts_are_joined(client: httpx.AsyncClient) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "image_url"}, {"type": "text", "text": "2"}]
    body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    answer = (await client.post("/v1/chat/completions", json=body)).json()
    assert answer["choices"][0]["message"]["content"] == "echo: one 2"


@pytest.mark.parametrize(
    ("dialect", "content"),
    [
        ("openai", b"not json"),
        ("openai", b"[]"),
        ("openai", b'{"model":"m"}'),
        ("openai", b'{"model":"m","messages":[]}'),
        ("openai", b'{"model":"m","messages":[{"content":7}]}'),
        ("ollama", b'{"model":"m","messages":[{"content":"x"}],"stream":true}'),
        ("ollama", b'{"model":"m","messages":[{"content":"streams unless told not to"}]}'),
    ],
)
async def test_bad_body_gets_400(client: httpx.AsyncClient, dialect: str, content: bytes) -> None:
    assert (await client.post(PATHS[dialect], content=content)).status_code == 400
    assert (await stats(client))["answers"] == {"400": 1}


async def test_unknown_path_gets_404(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/models")).status_code == 404


async def test_connection_is_kept_alive(client: httpx.AsyncClient) -> None:
    async with connected(client, b"") as (reader, writer):
        for _ in range(3):
            writer.write(raw_request(chat_body()))
            assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Length: ")[2]))


async def test_pipelined_requests_are_answered_in_order(client: httpx.AsyncClient) -> None:
    slow = raw_request(chat_body("sim-latency-20", "first"))
    rest = [raw_request(chat_body(text=f"number {n}")) for n in range(3000)]  # many reads
    last = raw_request(chat_body(text="last"), headers="Connection: close\r\n")
    answer = await exchanged(client, b"".join([slow, *rest, last]))
    expected = ["first", *(f"number {n}" for n in range(3000)), "last"]
    found = [part.partition(b'"')[0].decode() for part in answer.split(b"echo: ")[1:]]
    assert found == expected


async def test_connection_close_is_honoured(client: httpx.AsyncClient) -> None:
    answer = await exchanged(client, raw_request(chat_body(), headers="Connection: close\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in answer


async def test_chunked_body_is_read(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in orjson.dumps(chat_body()):
            yield bytes([byte])

    assert (await client.post(PATHS["openai"], content=chunks())).status_code == 200


async def test_large_body_is_echoed(client: httpx.AsyncClient) -> None:
    text = "é" * 2_000_000
    body = (await ask(client, text=text)).json()
    assert body["choices"][0]["message"]["content"] == f"echo: {text}"


async def test_body_over_the_limit_gets_413(client: httpx.AsyncClient) -> None:
    head = f"POST /api/chat HTTP/1.1\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n"
    assert (await exchanged(client, head.encode())).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("data", [b"no http\r\n\r\n", b"\r\n\r\nGET / HTTP/9\r\n\r\n"])
async def test_bad_http_gets_400(client: httpx.AsyncClient, data: bytes) -> None:
    assert (await exchanged(client, data)).startswith(b"HTTP/1.1 400 ")


async def test_blank_line_before_a_request_is_ignored(client: httpx.AsyncClient) -> None:
    async with connected(client, b"\r\n") as (reader, writer):
        await stats(client)
        writer.write(raw_request(chat_body()))
        assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"


async def test_expect_continue_is_answered(client: httpx.AsyncClient) -> None:
    headers = "Expect: 100-continue\r\nConnection: close\r\n"
    answer = await exchanged(client, raw_request(chat_body(), headers=headers))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


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


@pytest.mark.parametrize(
    ("dialect", "absent"),
    [("openai", {"usage"}), ("ollama", {"prompt_eval_count", "eval_count"})],
)
async def test_no_usage(client: httpx.AsyncClient, dialect: str, absent: set[str]) -> None:
    body = (await ask(client, "sim-no-usage", dialect=dialect)).json()
    assert not absent & body.keys()


async def test_null_content(client: httpx.AsyncClient) -> None:
    openai = (await ask(client, "sim-null-content")).json()
    ollama = (await ask(client, "sim-null-content", dialect="ollama")).json()
    null = {"role": "assistant", "content": None}
    assert (openai["choices"][0]["message"], ollama["message"]) == (null, null)


async def test_empty_choices(client: httpx.AsyncClient) -> None:
    assert (await ask(client, "sim-empty-choices")).json()["choices"] == []
    assert "message" not in (await ask(client, "sim-empty-choices", dialect="ollama")).json()


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


async def test_dialect_has_its_own_behaviour() -> None:
    async with provider(Behaviour(by_dialect={"ollama": Behaviour(limit=1)})) as client:
        calls = [asyncio.create_task(ask(client, "sim-hang", dialect=dialect)) for dialect in PATHS]
        await stats_when(client, lambda now: now["in_flight"] == 2)
        assert (await ask(client)).status_code == 200
        assert (await ask(client, dialect="ollama")).status_code == 429
        for call in calls:
            call.cancel()


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


async def test_config_is_replaced_and_shown(client: httpx.AsyncClient) -> None:
    changes = {"rate_429": 0.5, "by_dialect": {"ollama": {"limit": 3}}}
    put = await client.put("/_sim/config", json=changes)
    shown = (await client.get("/_sim/config")).json()
    assert put.json() == shown
    assert load_behaviour(orjson.dumps(shown)) == Behaviour(
        rate_429=0.5, by_dialect={"ollama": Behaviour(limit=3)}
    )


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ('{"rate_430": 0.5}', "rate_430"),
        ('{"rate_429": 1.5}', "rate_429"),
        ('{"latency_ms": "5"}', "latency_ms"),
        ('{"limit": -1}', "limit"),
        ('{"retry_after": "1\\r\\nX: y"}', "retry_after"),
        ('{"by_dialect": {"ollama": {"seed": null}}}', "by_dialect.ollama.seed"),
        ('{"by_dialect": {"ollama": {"by_dialect": {"ollama": {}}}}}', "by_dialect"),
        ('{"by_dialect": {"mistral": {}}}', "by_dialect.mistral"),
        ('{"by_model": {"m": {"by_model": {"m": {}}}}}', "by_model"),
        ('{"budget": {}}', "rpm or tpm"),
        ('{"window": {"calls": 2}}', "window.seconds"),
        ('{"outage": {"status": 100}}', "outage.status"),
        ('{"latency_p95_ms": 5}', "latency_p95_ms"),
        ('{"rate_429": 0.6, "rate_hang": 0.6}', "rate_"),
        ("{", "JSON"),
    ],
)
async def test_bad_config_gets_422_and_changes_nothing(
    client: httpx.AsyncClient, config: str, named: str
) -> None:
    response = await client.put("/_sim/config", content=config)
    assert response.status_code == 422
    assert named in response.json()["error"]
    assert load_behaviour((await client.get("/_sim/config")).content) == Behaviour()


@pytest.mark.parametrize(
    ("dialect", "headers", "status"),
    [
        ("openai", {"Authorization": "Bearer right"}, 200),
        ("openai", {"Authorization": "Bearer wrong"}, 401),
        ("openai", {}, 401),
        ("ollama", {}, 200),
    ],
)
async def test_expected_key(dialect: str, headers: dict[str, str], status: int) -> None:
    async with provider(Behaviour(expect_key="right")) as client:
        response = await client.post(PATHS[dialect], json=chat_body(), headers=headers)
    assert response.status_code == status


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


async def test_simulator_can_be_asked_in_process() -> None:
    async with Simulator() as simulator, httpx.AsyncClient(base_url=simulator.url) as client:
        await ask(client)
        assert simulator.stats() == await stats(client)
        assert simulator.ledger() == await ledger(client)
        assert simulator.last() == (await client.get("/_sim/last")).json()
        simulator.configure(Behaviour(rate_500=1))
        assert (await ask(client)).status_code == 500


async def test_leaving_closes_open_connections() -> None:
    async with Simulator() as simulator, httpx.AsyncClient(base_url=simulator.url) as client:
        call = asyncio.create_task(ask(client, "sim-hang"))
        await stats_when(client, lambda now: now["in_flight"] == 1)
        await simulator.__aexit__()
        with pytest.raises(httpx.TransportError):
            await call


async def start_process(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.simulator", *options),
        cwd=Path(__file__).parents[1],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_process_serves_until_it_is_stopped(signum: signal.Signals) -> None:
    process = await start_process("--latency-ms", "5", "--config", '{"rate_500": 1}')
    async with asyncio.timeout(30):
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        prefix, _, url = line.rstrip("\n").rpartition(" ")
        async with httpx.AsyncClient(base_url=url) as client:
            response = await ask(client)
            config = (await client.get("/_sim/config")).json()
        process.send_signal(signum)
        _, errors = await process.communicate()
    assert (prefix, response.status_code) == ("simulator listening on", 500)
    assert (config["latency_ms"], config["rate_500"]) == (5, 1)
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("variable", [False, True])
async def test_process_refuses_a_bad_config(
    monkeypatch: pytest.MonkeyPatch, *, variable: bool
) -> None:
    if variable:
        monkeypatch.setenv("SIMULATOR_CONFIG", '{"rate_x": 1}')
    process = await start_process(*(() if variable else ("--config", '{"rate_x": 1}')))
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"rate_x" in errors


TOOLS = {"tools": [{"type": "function", "function": {"name": "weather"}}]}
CALL = 'call weather {"city":"Oslo"}'


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/v1/responses", {"input": "{}"}, lambda r: r["output"][0]["content"][0]["text"]),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "{}"}]}]},
            lambda r: r["output"][0]["content"][0]["text"],
        ),
        (
            "/v1/messages",
            {"max_tokens": 7, "messages": [{"role": "user", "content": "{}"}]},
            lambda r: r["content"][0]["text"],
        ),
        (
            "/v1beta/models/m:generateContent",
            {"contents": [{"parts": [{"text": "{}"}]}]},
            lambda r: r["candidates"][0]["content"]["parts"][0]["text"],
        ),
    ],
)
async def test_other_dialects_echo(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], text: Callable[[Any], str]
) -> None:
    content = orjson.dumps({"model": "m", **body}).replace(b"{}", b"hello there")
    response = await client.post(path, content=content)

    assert (response.status_code, text(response.json())) == (200, "echo: hello there")


@pytest.mark.parametrize(
    ("path", "body", "call"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": CALL}]},
            lambda r: r["choices"][0]["message"]["tool_calls"][0]["function"],
        ),
        ("/v1/responses", {"input": CALL}, lambda r: r["output"][0]),
    ],
)
async def test_a_message_can_ask_for_a_tool_call(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], call: Callable[[Any], Any]
) -> None:
    found = call((await client.post(path, json={"model": "m", **body, **TOOLS})).json())

    assert (found["name"], found["arguments"]) == ("weather", '{"city":"Oslo"}')


@pytest.mark.parametrize(
    ("given", "count"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)]
)
async def test_embeddings(client: httpx.AsyncClient, given: object, count: int) -> None:
    body = (await client.post("/v1/embeddings", json={"model": "m", "input": given})).json()

    assert [item["embedding"][0] for item in body["data"]] == [1.0] * count


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/v1/responses", {"authorization": "Bearer k"}),
        ("/v1/messages", {"x-api-key": "k"}),
        ("/v1beta/models/m:generateContent", {"x-goog-api-key": "k"}),
    ],
)
async def test_each_dialect_has_its_own_header_for_the_key(
    path: str, header: dict[str, str]
) -> None:
    body = {
        "model": "m",
        "input": "a",
        "max_tokens": 1,
        "messages": [{"content": "a"}],
        "contents": [{"parts": [{"text": "a"}]}],
    }
    async with provider(Behaviour(expect_key="k")) as client:
        statuses = [
            (await client.post(path, json=body, headers=headers)).status_code
            for headers in ({}, header)
        ]

    assert statuses == [401, 200]


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
