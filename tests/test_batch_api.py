"""Tests POST /batch: requests, responses and refusals."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.examples import SEED_EXAMPLE
from support.in_process import running_api, running_worker
from support.jobs import wait_completed
from support.stack import Stack, chat, eventually, queued, stored

from cli.simulator import Behaviour, Simulator
from shared.providers import PROVIDERS
from shared.queue.redis_keys import Keys
from shared.settings import ProviderSettings, Settings
from worker.lane_worker import POLL_S

Providers = dict[str, ProviderSettings]


async def post(
    client: httpx.AsyncClient,
    *requests: dict[str, Any],
    **options: Any,
) -> httpx.Response:
    return await client.post("/batch", json={"requests": requests}, **options)


async def answers(client: httpx.AsyncClient, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await post(client, *requests)
    assert answer.status_code == 200, answer.text
    responses: list[dict[str, Any]] = answer.json()["responses"]
    return responses


@asynccontextmanager
async def service(
    settings: Settings, providers: Providers, **changes: object
) -> AsyncIterator[httpx.AsyncClient]:
    """Runs an API and a worker with settings that differ from the settings of the fixtures."""
    changed = settings.model_copy(update=changes)
    async with running_worker(changed, providers), running_api(changed) as client:
        yield client


# The response


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


# Faults of the provider

NO_ANSWER = {
    "status-400": "invalid_request",
    "status-401": "unauthorized",
    "status-402": "payment_required",
    "status-403": "unauthorized",
    "status-404": "model_not_found",
    "status-408": "timeout",
    "status-409": "provider_error",
    "status-422": "invalid_request",
    "status-429": "rate_limited",
    "status-500": "provider_error",
    "status-502": "provider_error",
    "status-503": "provider_error",
    "status-504": "timeout",
    "status-302": "invalid_request",
    "hang": "timeout",
    "drip": "timeout",
    "drop": "connection_error",
    "half": "connection_error",
    "garbage": "bad_response",
    "html": "bad_response",
    "huge": "answer_too_large",
    "empty-choices": "bad_response",
}
ERROR_OBJECTS = {
    "openrouter": {
        "error-object-400": "invalid_request",
        "error-object-402": "payment_required",
        "error-object-429": "rate_limited",
        "error-object-502": "provider_error",
    },
    "ollama": {"error-object-502": "provider_error"},
}


@pytest.mark.parametrize("provider", ["openrouter", "ollama"])
async def test_each_fault_has_its_code_and_affects_no_other_request(
    settings: Settings, providers: Providers, provider: str
) -> None:
    faults = NO_ANSWER | ERROR_OBJECTS[provider]
    requests = []
    for fault in faults:
        requests.append(chat(f"{fault} fails", provider=provider, model=f"sim-{fault}"))
        requests.append(chat(f"{fault} not", provider=provider))

    async with service(
        settings, providers, max_retries=0, request_timeout=5, max_concurrent_requests=100
    ) as client:
        answer = await post(client, *requests)

    assert answer.status_code == 200
    body = answer.json()
    failed, fine = body["responses"][::2], body["responses"][1::2]
    assert {r["model"].removeprefix("sim-"): r["error_code"] for r in failed} == faults
    assert all(r["error"] and r["content"] == "" and r["attempts"] == 1 for r in failed)
    assert [r["content"] for r in fine] == [f"echo: {fault} not" for fault in faults]
    assert [r["error_code"] for r in fine] == [None] * len(faults)
    counts = (body["total_requests"], body["successful"], body["failed"])
    assert counts == (2 * len(faults), len(faults), len(faults))


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
async def test_ollama_404_names_the_model_to_pull(api: httpx.AsyncClient) -> None:
    [response] = await answers(api, chat("x", provider="ollama", model="sim-status-404"))

    assert "sim-status-404" in response["error"]
    assert "pull" in response["error"]


async def test_provider_that_is_unreachable(settings: Settings, providers: Providers) -> None:
    down = {"openrouter": ProviderSettings(api_key="k", base_url="http://[::1]:1")}
    async with service(settings, providers | down, max_retries=0) as client:
        refused, fine = await answers(client, chat("x"), chat("y", provider="ollama"))

    assert refused["error_code"] == "connection_error"
    assert fine["content"] == "echo: y"


async def test_provider_without_its_key_is_not_called(
    settings: Settings, providers: Providers, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    keyless = {"openrouter": ProviderSettings(base_url=simulator.url)}
    async with service(settings, providers | keyless) as client:
        refused, fine = await answers(client, chat("x"), chat("y", provider="ollama"))

    assert (refused["error_code"], refused["attempts"]) == ("provider_not_configured", 0)
    assert fine["content"] == "echo: y"
    assert simulator.stats()["total"] == 1


# Retries


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("status", [429, 500])
async def test_third_attempt_succeeds(
    api: httpx.AsyncClient, simulator: Simulator, status: int
) -> None:
    [response] = await answers(api, chat("x", model=f"sim-{status}x2"))

    assert (response["content"], response["attempts"], response["error"]) == ("echo: x", 3, None)
    assert simulator.stats()["answers"] == {str(status): 2, "200": 1}


async def test_request_fails_after_max_retries(
    settings: Settings, providers: Providers, simulator: Simulator
) -> None:
    async with service(settings, providers, max_retries=1) as client:
        [response] = await answers(client, chat("x", model="sim-status-500"))

    assert (response["error_code"], response["attempts"]) == ("provider_error", 2)
    assert simulator.stats()["total"] == 2


@pytest.mark.usefixtures("worker")
async def test_rejected_request_is_not_retried(
    api: httpx.AsyncClient, simulator: Simulator
) -> None:
    [response] = await answers(api, chat("x", model="sim-status-400"))

    assert (response["error_code"], response["attempts"]) == ("invalid_request", 1)
    assert simulator.stats()["total"] == 1


@pytest.mark.usefixtures("worker")
async def test_retry_after_pauses_only_the_model_that_was_refused(
    api: httpx.AsyncClient, simulator: Simulator, redis: ArqRedis, keys: Keys
) -> None:
    simulator.configure(Behaviour(retry_after="3"))
    limited = asyncio.create_task(answers(api, chat("limited", model="sim-429x1")))

    async def paused() -> bool:
        return bool(await redis.exists(keys.health("openrouter")))

    await eventually(paused)
    await answers(api, chat("other model"), chat("other lane", provider="ollama"))
    [response] = await limited

    refused, *later = simulator.ledger()
    assert refused["outcome"] == 429
    waited_ms = {call["model"]: call["start_ms"] - refused["end_ms"] for call in later}
    assert len(later) == 3
    assert waited_ms["sim-429x1"] >= 2990
    assert waited_ms["m"] < 2900
    assert (response["content"], response["attempts"]) == ("echo: limited", 2)


async def test_retry_after_of_the_only_attempt_pauses_the_model(
    settings: Settings, providers: Providers, simulator: Simulator
) -> None:
    simulator.configure(Behaviour(retry_after="1"))
    async with service(settings, providers, max_retries=0) as client:
        [limited] = await answers(client, chat("limited", model="sim-429x1"))
        await answers(client, chat("next", model="sim-429x1"))

    assert limited["error_code"] == "rate_limited"
    refused, following = simulator.ledger()
    assert following["start_ms"] - refused["end_ms"] >= 990


# Unicode


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


# Invalid input


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        (b"", ["body"]),
        (b"{", ["body"]),
        (b'{"requests": [\xff]}', ["body"]),
        (json.dumps({"requests": [chat("x")]}).encode("utf-16"), ["body"]),
        (json.dumps({"requests": [chat("\ud800")]}), ["body"]),
        (b"null", ["body"]),
        (b"[]", ["body"]),
        (b"{}", ["body", "requests"]),
        (json.dumps({"requests": []}), ["body", "requests"]),
        (json.dumps({"requests": [chat("x")] * 101}), ["body", "requests"]),
        (
            json.dumps({"requests": [chat("x"), chat(" ")]}),
            ["body", "requests", 1, "messages", 0, "content"],
        ),
        (
            json.dumps({"requests": [chat("x"), chat("x", temperature=float("nan"))]}),
            ["body", "requests", 1, "temperature"],
        ),
        (
            json.dumps({"requests": [chat("x", max_tokens=0)]}),
            ["body", "requests", 0, "max_tokens"],
        ),
        (json.dumps({"requests": [chat("x") | {"top_k": 1}]}), ["body", "requests", 0, "top_k"]),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_invalid_input_is_located_and_nothing_is_stored(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys, body: bytes | str, loc: list[str | int]
) -> None:
    answer = await api.post("/batch", content=body)

    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [loc]
    assert await stored(redis, keys) == set()


async def test_duplicate_request_id_is_located_and_nothing_is_stored(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys
) -> None:
    answer = await post(api, chat("x", request_id="a"), chat("y", request_id="a"))

    assert answer.status_code == 422
    assert "requests[1].request_id" in answer.json()["detail"][0]["msg"]
    assert await stored(redis, keys) == set()


async def test_error_does_not_repeat_the_input(api: httpx.AsyncClient) -> None:
    answer = await post(api, chat("my secret", max_tokens=0), chat("my secret", role="my secret"))

    assert answer.status_code == 422
    assert "my secret" not in answer.text


async def test_unknown_mode_is_refused(api: httpx.AsyncClient) -> None:
    answer = await api.post("/batch?mode=later", json=SEED_EXAMPLE)

    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [["query", "mode"]]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 202),
        ("application/json; charset=utf-8", 202),
        ("Application/JSON", 202),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonp", 415),
        ("application/problem+json", 415),
        ("", 415),
    ],
)
async def test_content_type(api: httpx.AsyncClient, content_type: str, status: int) -> None:
    answer = await api.post(
        "/batch?mode=async",
        content=json.dumps(SEED_EXAMPLE),
        headers={"Content-Type": content_type},
    )

    assert answer.status_code == status


class Chunks:
    """A body of 1 KB chunks. It counts the chunks that were read."""

    def __init__(self) -> None:
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(1000):
            self.read += 1
            yield b" " * 1000


@pytest.mark.parametrize(
    ("headers", "most_read"),
    [
        ({"Content-Length": "1000000"}, 1),  # the test's transport reads one chunk ahead
        ({"Transfer-Encoding": "chunked"}, 12),
        ({"Content-Length": "10"}, 12),  # less than the real length
    ],
    ids=["declared", "chunked", "lying"],
)
async def test_too_large_body_is_refused_and_not_read(
    settings: Settings, redis: ArqRedis, keys: Keys, headers: dict[str, str], most_read: int
) -> None:
    body = Chunks()
    async with running_api(settings.model_copy(update={"max_body_bytes": 10_000})) as client:
        answer = await client.post("/batch", content=body, headers=headers)

    assert answer.status_code == 413
    assert body.read <= most_read
    assert await stored(redis, keys) == set()


async def test_body_at_the_limit_is_accepted(settings: Settings) -> None:
    body = json.dumps(SEED_EXAMPLE).encode()
    async with running_api(settings.model_copy(update={"max_body_bytes": len(body)})) as client:
        accepted = await client.post("/batch?mode=async", content=body)
        refused = await client.post("/batch?mode=async", content=body + b" ")

    assert (accepted.status_code, refused.status_code) == (202, 413)


async def test_endless_body_closes_the_connection(valkey_url: str, keys: Keys) -> None:
    deployment = Stack(valkey_url, keys, {"MAX_BODY_BYTES": "100000"})
    try:
        await deployment.start(workers=0)
        url = deployment.api.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(
            b"POST /batch HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        answer = asyncio.create_task(reader.read())
        sent = 0
        with suppress(ConnectionError):
            while sent < 100_000_000:
                writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                sent += 0x10000
                await writer.drain()
        status = b""  # the reset of the connection may arrive before the status
        with suppress(ConnectionError):
            status = await asyncio.wait_for(answer, 10)
        writer.close()
    finally:
        await deployment.stop()

    assert status[:13] in {b"", b"HTTP/1.1 413 "}
    assert sent < 20_000_000  # more than the buffers of the sockets can hold


# Limits


async def test_batch_is_refused_if_one_of_its_lanes_is_full(
    settings: Settings, redis: ArqRedis, keys: Keys
) -> None:
    async with running_api(settings.model_copy(update={"max_queue_depth": 3})) as client:
        accepted = await post(client, *[chat("x")] * 3, params={"mode": "async"})
        before = await stored(redis, keys)
        refused = await post(
            client, chat("y", provider="ollama"), chat("y"), params={"mode": "async"}
        )
        other = await post(client, chat("z", provider="ollama"), params={"mode": "async"})

        assert accepted.status_code == 202
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert "openrouter" in refused.json()["detail"]
        assert other.status_code == 202
        job_id = other.json()["job_id"]
        assert await stored(redis, keys) - before == {
            keys.job(job_id),
            keys.payloads(job_id),
            keys.queue("ollama", job_id, "m"),
            keys.depth("ollama"),
            keys.fair_queue("ollama"),
            keys.fair_queue("ollama", ""),
            keys.fair_queue("ollama", "", "bulk"),
        }


async def test_lane_that_has_emptied_accepts_again(
    settings: Settings, providers: Providers
) -> None:
    async with service(settings, providers, max_queue_depth=2) as client:
        for _ in range(3):
            assert len(await answers(client, chat("x"), chat("y"))) == 2


async def test_open_requests_are_limited(settings: Settings, redis: ArqRedis, keys: Keys) -> None:
    async with running_api(settings.model_copy(update={"max_open_requests": 1})) as client:
        waiting = asyncio.create_task(post(client, chat("x")))

        async def accepted() -> bool:
            return bool(await queued(redis, keys))

        await eventually(accepted)
        refused = await post(client, chat("y"))
        health = await client.get("/health")
        [job_key] = [key async for key in redis.scan_iter(match=f"{keys.job('')}*")]
        waiting.cancel()

        async def free() -> bool:
            job_id = job_key.decode().removeprefix(keys.job(""))
            return (await client.get(f"/jobs/{job_id}")).status_code == 200

        await eventually(free)

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert health.status_code == 200


# Asynchronous batches, and waits that end before the job has completed


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
