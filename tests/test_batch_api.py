"""Tests the responses of POST /batch: fields, order, defaults and times."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from support.batches import Providers, answers, post, service
from support.examples import SEED_EXAMPLE
from support.in_process import running_api
from support.jobs import wait_completed
from support.stack import chat

from cli.simulator import Behaviour, Simulator
from shared.providers import PROVIDERS
from shared.settings import Settings
from worker.lane_worker import POLL_S


@pytest.mark.usefixtures("worker")
async def test_seed_example_has_the_seed_shape(api: httpx.AsyncClient) -> None:
    answer = await api.post("/batch", json=SEED_EXAMPLE)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    measured: list[dict[str, Any]] = [
        {
            name: response.pop(name)
            for name in ("latency_ms", "timestamp", "queued_ms", "retried_ms")
        }
        for response in body["responses"]
    ]
    assert all(type(figures["latency_ms"]) is float for figures in measured)
    assert all(type(figures["queued_ms"]) is float for figures in measured)
    assert [figures["retried_ms"] for figures in measured] == [0, 0]
    totals = {name: body.pop(name) for name in ("total_latency_ms", "average_latency_ms")}
    assert all(type(figure) is float for figure in totals.values())
    assert body == {
        "job_id": answer.headers["location"].removeprefix("/jobs/"),
        "responses": [
            {
                "request_id": "req-1",
                "provider": "openrouter",
                "model": "google/gemma-3-27b-it:free",
                "content": "echo: Tell me a short story about a cat.",
                "prompt_tokens": 8,
                "completion_tokens": 9,
                "total_tokens": 17,
                "cost_usd": 0.000017,
                "error": None,
                "error_code": None,
                "attempts": 1,
                "finish_reason": "stop",
            },
            {
                "request_id": "req-2",
                "provider": "ollama",
                "model": "deepseek-r1:8b",
                "content": "echo: Explain the concept of quantum entanglement in simple terms.",
                "prompt_tokens": 14,
                "completion_tokens": 10,
                "total_tokens": 24,
                "cost_usd": None,
                "error": None,
                "error_code": None,
                "attempts": 1,
                "finish_reason": "stop",
            },
        ],
        "total_requests": 2,
        "successful": 2,
        "failed": 0,
    }


@pytest.mark.usefixtures("worker")
async def test_times_are_consistent(api: httpx.AsyncClient) -> None:
    latencies_ms = [50, 150, 0]
    sent_at, sent = datetime.now(UTC), time.monotonic()
    requests = [chat(f"{ms}", model=f"sim-latency-{ms}") for ms in latencies_ms]
    body = (await post(api, *requests)).json()
    wall_ms = (time.monotonic() - sent) * 1000

    responses = body["responses"]
    measured = [response["latency_ms"] for response in responses]
    assert all(got >= set_ms for got, set_ms in zip(measured, latencies_ms, strict=True))
    assert body["average_latency_ms"] == pytest.approx(sum(measured) / 3, abs=0.01)
    assert body["total_latency_ms"] <= wall_ms
    for response in responses:
        assert response["queued_ms"] >= 0
        assert response["queued_ms"] + response["latency_ms"] <= body["total_latency_ms"]
        timestamp = datetime.fromisoformat(response["timestamp"])
        assert timestamp.utcoffset() == UTC.utcoffset(None)
        assert sent_at <= timestamp <= datetime.now(UTC)


async def test_queued_ms_counts_the_wait_for_a_slot(
    settings: Settings, providers: Providers
) -> None:
    async with service(settings, providers, max_concurrent_requests=1) as client:
        first, second = await answers(
            client, *[chat(str(i), model="sim-latency-100") for i in "ab"]
        )

    assert second["queued_ms"] >= first["queued_ms"] + 100
    assert second["latency_ms"] < second["queued_ms"] + 100


async def test_freed_slot_is_used_at_once(settings: Settings, providers: Providers) -> None:
    """Includes the first free slot after the start, when Redis does not know the scripts yet."""
    async with service(settings, providers, max_concurrent_requests=1, lease_seconds=30) as client:
        body = (await post(client, *[chat(str(i)) for i in range(4)])).json()

    assert body["total_latency_ms"] < 0.8 * POLL_S * 1000  # not after the interval of a round


@pytest.mark.usefixtures("worker")
async def test_results_are_in_the_order_of_the_requests(api: httpx.AsyncClient) -> None:
    requests = [
        chat(
            f"question {i}",
            provider=("openrouter", "ollama")[i % 2],
            model=f"sim-latency-{(i * 37) % 60}",
            request_id=f"id-{i}" if i % 3 else None,
        )
        for i in range(100)
    ]

    responses = await answers(api, *requests)

    assert [(r["content"], r["provider"], r["model"], r["request_id"]) for r in responses] == [
        (f"echo: question {i}", r["provider"], r["model"], r.get("request_id"))
        for i, r in enumerate(requests)
    ]


@pytest.mark.usefixtures("worker")
async def test_model_is_lower_case_in_the_call_and_in_the_result(
    api: httpx.AsyncClient, simulator: Simulator
) -> None:
    [response] = await answers(api, chat("x", model="Google/Gemma:FREE"))

    assert response["model"] == "google/gemma:free"
    assert simulator.last()["openai"]["body"]["model"] == "google/gemma:free"


@pytest.mark.usefixtures("worker")
async def test_defaults_are_sent(api: httpx.AsyncClient, simulator: Simulator) -> None:
    await answers(api, chat("x"))

    assert simulator.last()["openai"]["body"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0.7,
        "max_tokens": 1000,
    }


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("provider", ["openrouter", "ollama"])
async def test_null_content_is_an_empty_answer(api: httpx.AsyncClient, provider: str) -> None:
    [response] = await answers(api, chat("x", provider=provider, model="sim-null-content"))

    assert (response["content"], response["error"]) == ("", None)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("provider", ["openrouter", "ollama"])
async def test_missing_usage_is_zero(api: httpx.AsyncClient, provider: str) -> None:
    [response] = await answers(api, chat("x", provider=provider, model="sim-no-usage"))

    tokens = [response[f"{kind}_tokens"] for kind in ("prompt", "completion", "total")]
    assert (response["content"], tokens) == ("echo: x", [0, 0, 0])


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("provider", ["openrouter", "ollama"])
@pytest.mark.parametrize(
    "content",
    [
        "😀 👩‍👩‍👧‍👦 🏳️‍🌈",
        "שלום \u202eabc\u202c مرحبا",
        "a\0b",
        "\r\n\t\u2028\u0085\ufeff x \x7f\x1b[31m",
        "e\u0301 ≠ \u00e9",
        '"}]} \\u0041 </script> {{x}} %s',
        "\U0010ffff\ufffe",
        "x" * 50_000,
        "😀" * 50_000,
    ],
    ids=lambda content: ascii(content)[:30],
)
async def test_text_is_returned_unchanged(
    api: httpx.AsyncClient, simulator: Simulator, provider: str, content: str
) -> None:
    [response] = await answers(api, chat(content, provider=provider, request_id=content[:256]))

    assert response["content"] == f"echo: {content}"
    assert response["request_id"] == content[:256]
    sent = simulator.last()[PROVIDERS[provider].dialect]["body"]
    assert sent["messages"] == [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("options", "applied"),
    [
        ({"params": {"mode": "async"}}, None),
        ({"headers": {"Prefer": "respond-async"}}, "respond-async"),
        ({"headers": {"Prefer": "RESPOND-ASYNC; x=y, other"}}, "respond-async"),
        ({"headers": {"Prefer": "wait=0"}}, "wait=0"),
        (
            {"headers": [("Prefer", "handling=lenient"), ("Prefer", "respond-async")]},
            "respond-async",
        ),
    ],
    ids=["mode", "prefer", "prefer-parameters", "wait=0", "two-fields"],
)
async def test_asynchronous_batch_is_accepted(
    api: httpx.AsyncClient, options: dict[str, Any], applied: str | None
) -> None:
    async with asyncio.timeout(30):
        answer = await post(api, chat("x"), chat("y", provider="ollama"), **options)

    assert answer.status_code == 202
    assert answer.headers.get("preference-applied") == applied
    status = answer.json()
    assert answer.headers["location"] == f"/jobs/{status['job_id']}"
    accepted_at = status.pop("accepted_at")
    assert datetime.fromisoformat(accepted_at).utcoffset() == UTC.utcoffset(None)
    assert status == {
        "job_id": status["job_id"],
        "owner": "",
        "status": "queued",
        "total_requests": 2,
        "providers": {"openrouter": 1, "ollama": 1},
        "queued": 2,
        "retrying": 0,
        "running": 0,
        "successful": 0,
        "failed": 0,
        "cancelled": 0,
        "started_at": None,
        "finished_at": None,
        "deadline_at": None,
        "retry_of": None,
        "retried_as": None,
        "webhook": None,
        "responses": [None, None],
        "total_latency_ms": None,
        "average_latency_ms": None,
    }


@pytest.mark.parametrize("prefer", ["wait=2", "wait=2, handling=strict"])
async def test_wait_that_ends_first_returns_the_results_so_far(
    settings: Settings, providers: Providers, simulator: Simulator, prefer: str
) -> None:
    simulator.configure(Behaviour(by_dialect={"ollama": Behaviour(latency_ms=5000)}))
    async with service(settings, providers) as client:
        early = await post(
            client, chat("fast"), chat("slow", provider="ollama"), headers={"Prefer": prefer}
        )
        late = await wait_completed(client, early.headers["location"])

    assert early.status_code == 202
    assert early.headers["preference-applied"] == "wait=2"
    status = early.json()
    fast, slow = status["responses"]
    assert (fast["content"], slow) == ("echo: fast", None)
    counts = ("status", "queued", "running", "successful", "failed")
    assert [status[name] for name in counts] == ["running", 0, 1, 1, 0]
    assert late["responses"][0] == fast
    assert [r["content"] for r in late["responses"]] == ["echo: fast", "echo: slow"]


async def test_sync_wait_seconds_limits_every_wait(settings: Settings) -> None:
    async with running_api(settings.model_copy(update={"sync_wait_seconds": 0.2})) as client:
        started = time.monotonic()
        alone = await post(client, chat("x"))
        longer = await post(client, chat("x"), headers={"Prefer": "wait=20"})
        took_s = time.monotonic() - started

    assert (alone.status_code, longer.status_code) == (202, 202)
    assert 0.4 <= took_s < 5


@pytest.mark.usefixtures("worker")
async def test_prefer_wait_is_a_limit_not_a_delay(api: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        answer = await post(api, chat("x"), headers={"Prefer": "wait=100"})

    assert answer.status_code == 200
    assert answer.json()["responses"][0]["content"] == "echo: x"


@pytest.mark.usefixtures("worker")
async def test_respond_async_with_wait_waits_first(api: httpx.AsyncClient) -> None:
    """Together, they ask for an asynchronous response only after the wait (RFC 7240, 4.3)."""
    answer = await post(api, chat("x"), headers={"Prefer": "respond-async, wait=10"})

    assert answer.status_code == 200
