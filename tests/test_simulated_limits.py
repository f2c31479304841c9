"""Tests what the simulator refuses, delays and counts: outages, budgets, windows, loads, slots."""

import asyncio
import time
from itertools import pairwise
from typing import Any

import httpx
import pytest
from support.simulated import PATHS, ask, chat_body, ledger, provider, stats, stats_when

from cli.simulator import Behaviour
from cli.simulator.budgets import Bucket, Budget, BudgetState, go_duration
from cli.simulator.chat import Chat
from cli.simulator.outages import Outage
from cli.simulator.request_windows import Window, WindowState
from cli.simulator.scopes import SimulatedRefusal
from cli.simulator.tokens import count_by_script

QUOTA = {
    "error": {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
}


async def statuses(client: httpx.AsyncClient, count: int, model: str = "m") -> list[int]:
    return [(await ask(client, model, f"{n}")).status_code for n in range(count)]


@pytest.mark.parametrize(
    ("outage", "status", "body"),
    [
        ({}, 503, {"error": {"code": 503, "message": "Service Unavailable"}}),
        ({"status": 401}, 401, {"error": {"code": 401, "message": "Unauthorized"}}),
        ({"status": 429, "body": QUOTA}, 429, QUOTA),
        ({"status": 529, "body": '{"a": 1.50}'}, 529, {"a": 1.5}),
    ],
)
async def test_an_outage_answers_all_calls(outage: dict[str, Any], status: int, body: Any) -> None:
    async with provider(Behaviour(outage=Outage(headers={"X-A": "b"}, **outage))) as client:
        for model in ("m", "sim-status-400"):
            answer = await ask(client, model)
            assert (answer.status_code, answer.json(), answer.headers["x-a"]) == (status, body, "b")
        await client.put("/_sim/config", json={})
        assert await statuses(client, 1) == [200]


async def test_an_outage_can_close_every_connection() -> None:
    async with provider(Behaviour(outage=Outage(status=None))) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(client)
        assert [call["outcome"] for call in await ledger(client)] == ["drop"]


async def test_an_outage_ends_after_its_time() -> None:
    async with provider() as client:
        before_ms = time.monotonic() * 1000
        await client.put("/_sim/config", json={"outage": {"seconds": 0.2}})
        async with asyncio.timeout(30):
            while (await ask(client)).status_code == 503:
                pass
        calls = await ledger(client)
    assert calls[-1]["start_ms"] - before_ms >= 199


async def test_a_model_has_its_own_behaviour() -> None:
    gone, limited = Behaviour(outage=Outage(status=404)), Behaviour(limit=0, retry_after="9")
    async with provider(Behaviour(by_model={"gone": gone, "limited": limited})) as client:
        answers = [await ask(client, model) for model in ("gone", "limited", "m")]
        counts = (await stats(client))["by_model"]
    assert [answer.status_code for answer in answers] == [404, 429, 200]
    assert answers[1].headers["retry-after"] == "9"
    assert {name: (c["answered"], c["refused"], c["peak"]) for name, c in counts.items()} == {
        "gone": (0, 1, 1),
        "limited": (0, 1, 0),
        "m": (1, 0, 1),
    }


async def test_calls_are_counted_for_each_key() -> None:
    async with provider() as client:
        for key in ("one", "two", "one"):
            headers = {"Authorization": f"Bearer {key}"}
            await client.post(PATHS["openai"], json=chat_body(), headers=headers)
        counts = (await stats(client))["by_key"]
        assert [call["key"] for call in await ledger(client)] == ["one", "two", "one"]
    assert {key: of_key["answered"] for key, of_key in counts.items()} == {"one": 2, "two": 1}


async def test_a_poisoned_request_always_fails() -> None:
    async with provider(Behaviour(poison="POISON")) as client:
        answers = [await ask(client, text=text) for text in ("a POISON b", "a", "a POISON b")]
    assert [answer.status_code for answer in answers] == [500, 200, 500]


async def test_the_limit_changes_while_calls_run() -> None:
    behaviour = {"limit_status": 503, "limit_delay_ms": 50}
    async with provider() as client:
        found = []
        for limit in (2, 1, 3):
            await client.put("/_sim/config", json={"limit": limit, **behaviour})
            calls = [asyncio.create_task(ask(client, "sim-hang", f"{n}")) for n in range(4)]
            figures = await stats_when(
                client, lambda now: now["in_flight"] + now["answers"].get("503", 0) == 4
            )
            found.append(figures["in_flight"])
            for call in calls:
                call.cancel()
            await stats_when(client, lambda now: now["in_flight"] == 0)
            refused = [c for c in await ledger(client) if c["outcome"] == 503]
            assert all(call["end_ms"] - call["start_ms"] >= 49 for call in refused)
            await client.post("/_sim/reset")
    assert found == [2, 1, 3]


def test_a_bucket_admits_what_its_rate_allows() -> None:
    bucket = Bucket(per_s=2, size=2)
    admitted = []
    for step in range(41):  # 10 s
        now = 100 + step / 4
        if bucket.wait_s(1, now) == 0:
            bucket.admit(1, now)
            admitted.append(now - 100)
    assert admitted == [0, 0.25, *(0.5 * n for n in range(1, 21))]
    assert bucket.report() == {"admitted": 22, "possible": 22}
    assert bucket.wait_s(1, 110) == pytest.approx(0.5)


def test_a_bucket_holds_the_largest_prompt() -> None:
    bucket = Bucket(per_s=10, size=5)
    assert bucket.wait_s(100, 0) == 0
    bucket.admit(100, 0)
    assert (bucket.wait_s(100, 0), bucket.wait_s(5, 0)) == (10, 0.5)


@pytest.mark.parametrize(("reserve_output", "levels"), [(True, [50, 88]), (False, [90, 88])])
def test_tokens_of_the_answer_are_charged(*, reserve_output: bool, levels: list[int]) -> None:
    state = BudgetState(Budget(tpm=6000, reserve_output=reserve_output))
    chat = Chat(texts=("a " * 10,), max_tokens=40)
    assert state.admit(chat, 0) is None
    remaining = [dict(state.headers())["x-ratelimit-remaining-tokens"]]
    state.settle(chat, 2)
    remaining.append(dict(state.headers())["x-ratelimit-remaining-tokens"])
    assert remaining == [f"{level}" for level in levels]


@pytest.mark.parametrize(
    ("headers", "message", "lines"),
    [
        (
            "openai",
            "Rate limit reached on requests per min. Please try again in 9.5s.",
            {
                "x-ratelimit-limit-requests": "6",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "19.5s",
            },
        ),
        ("retry-after", "Rate limit reached on requests per min", {"Retry-After": "10"}),
        ("none", "Rate limit reached on requests per min", {}),
    ],
)
def test_a_budget_says_when_it_has_room(headers: Any, message: str, lines: dict[str, str]) -> None:
    state = BudgetState(Budget(rpm=6, headers=headers))
    assert [state.admit(Chat(), 0), state.admit(Chat(), 0)] == [None, None]
    assert state.admit(Chat(), 0.5) == SimulatedRefusal(429, message, tuple(lines.items()))
    assert state.admit(Chat(), 10) is None


async def test_a_call_over_the_budget_gets_429() -> None:
    async with provider(Behaviour(budget=Budget(rpm=1))) as client:
        answers = [await ask(client) for _ in range(3)]
        [report] = (await stats(client))["budgets"]
    found = [(a.status_code, a.headers["x-ratelimit-remaining-requests"]) for a in answers]
    assert found == [(200, "1"), (200, "0"), (429, "0")]
    assert (report["of"], report["requests"]["admitted"]) == ("account", 2)


@pytest.mark.parametrize(("per", "answered"), [("account", 2), ("model", 4), ("key", 2)])
async def test_a_budget_is_shared_by_its_scope(per: Any, answered: int) -> None:
    async with provider(Behaviour(budget=Budget(rpm=1, per=per))) as client:
        found = [await statuses(client, 3, model) for model in ("a", "b")]
    assert sum(of_model.count(200) for of_model in found) == answered


@pytest.mark.parametrize(("charge_refused", "wait"), [(False, "1s"), (True, "2s")])
def test_refused_calls_can_be_charged(*, charge_refused: bool, wait: str) -> None:
    state = BudgetState(Budget(rpm=60, charge_refused=charge_refused))
    *_, last = [state.admit(Chat(), 0) for _ in range(4)]
    assert last
    assert last.message.endswith(f" in {wait}.")


async def test_an_equal_budget_continues_until_the_reset() -> None:
    config = {"budget": {"rpm": 1}}
    async with provider() as client:
        found = []
        for change in ({}, {"latency_ms": 1}):
            await client.put("/_sim/config", json=config | change)
            found += await statuses(client, 2)
        await client.post("/_sim/reset")
        found += await statuses(client, 1)
    assert found == [200, 200, 429, 429, 200]


def test_a_window_says_when_it_ends() -> None:
    state, now = WindowState(Window(calls=2, seconds=8)), 1_795_640_392.0
    assert [state.admit(now), state.admit(now + 7)] == [None, None]
    refusal = state.admit(now + 7.9)
    assert refusal
    assert (refusal.status, dict(refusal.headers)) == (
        429,
        {
            "X-RateLimit-Limit": "2",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": "1795640400001",
        },
    )
    assert state.admit(now + 8) is None


async def test_a_call_outside_the_window_gets_429() -> None:
    async with provider(Behaviour(window=Window(calls=2, seconds=60))) as client:
        assert await statuses(client, 3) == [200, 200, 429]


async def test_the_first_call_loads_the_model() -> None:
    async with provider(Behaviour(load_s=0.2)) as client:
        await asyncio.gather(*(ask(client, text=f"{n}") for n in range(3)))
        took_ms = [call["end_ms"] - call["start_ms"] for call in await ledger(client)]
        await client.put("/_sim/config", json={"load_s": 3600})
        assert await statuses(client, 1) == [200]
    assert max(took_ms) >= 199


async def test_a_client_that_hangs_up_aborts_the_load() -> None:
    async with provider(Behaviour(load_s=3600)) as client:
        first = asyncio.create_task(ask(client, text="first"))
        await stats_when(client, lambda now: now["in_flight"] == 1)
        await client.put("/_sim/config", json={"load_s": 0.01})
        others = [asyncio.create_task(ask(client, text=f"{n}")) for n in range(2)]
        await stats_when(client, lambda now: now["in_flight"] == 3)
        others[1].cancel()  # the load does not belong to this call
        before = await stats_when(client, lambda now: now["in_flight"] == 2)
        first.cancel()
        assert (await others[0]).status_code == 200
        after = await stats(client)
    assert [now["aborted_loads"] for now in (before, after)] == [0, 1]


async def test_slots_are_given_in_the_order_of_the_calls() -> None:
    async with provider(Behaviour(slots=1, latency_ms=40)) as client:
        calls = [asyncio.create_task(ask(client, "sim-hang", "0"))]
        await stats_when(client, lambda now: now["in_flight"] == 1)
        calls += [asyncio.create_task(ask(client, text=f"{n}")) for n in range(1, 5)]
        await stats_when(client, lambda now: now["in_flight"] == 5)
        for call in calls[:2]:
            call.cancel()
        await asyncio.gather(*calls[2:])
        ended = sorted(c["end_ms"] for c in await ledger(client) if c["outcome"] == 200)
    assert len(ended) == 3
    assert all(later - earlier >= 39 for earlier, later in pairwise(ended))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The quick brown fox jumps over the lazy dog.", 10),
        ("今日は天気がいいです。", 11),
        ('{"name": "Ada", "age": 36}', 15),
        ("aGVsbG8gd29ybGQhIQ==", 13),
        ("Привет", 2),
        ("", 0),
    ],
)
def test_tokens_depend_on_the_script(text: str, tokens: int) -> None:
    assert count_by_script(text) == tokens


async def test_usage_follows_the_tokenizer() -> None:
    async with provider(Behaviour(tokenizer="scripts")) as client:
        usage = (await ask(client, text="今日は")).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (6, 5)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.12, "120ms"), (1, "1s"), (1.5, "1.5s"), (360, "6m0s"), (0.0001, "1ms")],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
