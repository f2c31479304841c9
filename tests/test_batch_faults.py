"""Tests which error a request of a batch gets if its provider fails, and when it is retried."""

import asyncio

import httpx
import pytest
from arq.connections import ArqRedis
from support.batches import Providers, answers, post, service
from support.stack import chat, eventually

from cli.simulator import Behaviour, Simulator
from shared.queue.redis_keys import Keys
from shared.settings import ProviderSettings, Settings

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
