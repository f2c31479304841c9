"""Tests the requests that providers get, and how answers are read."""

import gzip
from contextlib import suppress
from dataclasses import replace

import httpx
import orjson
import pytest
from support.provider_calls import KEY, both_providers, chat, with_key
from support.raw_server import http, raw

from cli.simulator import Simulator
from shared.dialects.dialect import Answer
from shared.providers import PROVIDERS
from worker.providers.client import call
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError

HI = http({"choices": [{"message": {"content": "hi"}}]})


async def test_openrouter_request(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], simulator: Simulator
) -> None:
    request = chat("one", "two")
    await call(client, endpoints["openrouter"], request, timeout_s=5)
    body = {
        "model": "some/model:free",
        "messages": request["chat"]["messages"],
        "temperature": 0.3,
        "max_tokens": 7,
    }
    assert simulator.last() == {
        "openai": {
            "headers": {
                "host": simulator.url.removeprefix("http://"),
                "accept": "*/*",
                "accept-encoding": "gzip, deflate",
                "connection": "keep-alive",
                "user-agent": "llm-batch-orchestrator",
                "content-type": "application/json",
                "content-length": str(len(orjson.dumps(body))),
                "authorization": "Bearer test-key",
                "http-referer": "http://localhost:8000",
                "x-title": "LLM batch orchestrator",
            },
            "body": body,
        }
    }


async def test_ollama_request(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], simulator: Simulator
) -> None:
    request = chat("one", "two")
    await call(client, endpoints["ollama"], request, timeout_s=5)
    body = {
        "model": "some/model:free",
        "messages": request["chat"]["messages"],
        "stream": False,
        "options": {"temperature": 0.3, "num_predict": 7},
    }
    assert simulator.last() == {
        "ollama": {
            "headers": {
                "host": simulator.url.removeprefix("http://"),
                "accept": "*/*",
                "accept-encoding": "gzip, deflate",
                "connection": "keep-alive",
                "user-agent": "llm-batch-orchestrator",
                "content-type": "application/json",
                "content-length": str(len(orjson.dumps(body))),
            },
            "body": body,
        }
    }


async def test_ollama_key_is_sent(client: httpx.AsyncBaseTransport, simulator: Simulator) -> None:
    ollama = with_key("ollama", simulator.url)
    await call(client, ollama, chat(), timeout_s=5)
    assert simulator.last()["ollama"]["headers"]["authorization"] == f"Bearer {KEY}"


async def test_referer_is_a_setting(client: httpx.AsyncBaseTransport, simulator: Simulator) -> None:
    openrouter = with_key("openrouter", f"{simulator.url}/v1", "https://me.test/")
    await call(client, openrouter, chat(), timeout_s=5)
    assert simulator.last()["openai"]["headers"]["http-referer"] == "https://me.test/"


async def test_path_is_added_to_the_base_url(client: httpx.AsyncBaseTransport) -> None:
    async with raw(HI) as server:
        openrouter = with_key("openrouter", f"{server.url}/api/v1/")
        await call(client, openrouter, chat(), timeout_s=5)
    assert server.requests[0].startswith(b"POST /api/v1/chat/completions HTTP/1.1\r\n")


@both_providers
async def test_answer(
    client: httpx.AsyncBaseTransport, endpoints: dict[str, Endpoint], provider: str
) -> None:
    completion = await call(client, endpoints[provider], chat("be brief", "hello"), timeout_s=5)
    cost_usd = {"openrouter": 0.000005, "ollama": None}[provider]
    assert replace(completion, usage=None) == Answer("echo: hello", 3, 2, 5, "stop", cost_usd)


@both_providers
@pytest.mark.parametrize(
    ("model", "completion"),
    [
        ("sim-null-content", Answer("", 2, 3, 5, "stop")),
        ("sim-no-usage", Answer("echo: hello there", 0, 0, 0, "stop")),
    ],
)
async def test_incomplete_answer(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    provider: str,
    model: str,
    completion: Answer,
) -> None:
    answer = await call(client, endpoints[provider], chat(model=model), timeout_s=5)
    assert replace(answer, cost_usd=None, usage=None) == completion


@both_providers
@pytest.mark.parametrize(
    "text",
    [
        "🎉 👩‍👩‍👧‍👦",
        "\u202e\u05e9\u05dc\u05d5\u05dd\u202c \u0633\u0644\u0627\u0645",
        "a\u0000b\u0000",
        "\r\n\t\u2028\u2029\ufeff",
        "e\u0301 é",
        '"quoted" \\ back\\u0041slash </script>',
        "x" * 50_000,
        "🎉" * 50_000,
    ],
    ids=["emoji", "rtl", "nul", "lines", "unnormalised", "quotes", "long", "long-emoji"],
)
async def test_text_is_unchanged_both_ways(
    client: httpx.AsyncBaseTransport,
    endpoints: dict[str, Endpoint],
    simulator: Simulator,
    provider: str,
    text: str,
) -> None:
    completion = await call(client, endpoints[provider], chat(text), timeout_s=5)
    assert completion.content == f"echo: {text}"
    sent = simulator.last()[PROVIDERS[provider].dialect]["body"]
    assert sent["messages"] == [{"role": "user", "content": text}]


async def test_gzipped_answer(client: httpx.AsyncBaseTransport) -> None:
    body = gzip.compress(orjson.dumps({"choices": [{"message": {"content": "hi"}}]}))
    async with raw(http(body, "Content-Encoding: gzip")) as server:
        completion = await call(client, with_key("openrouter", server.url), chat(), timeout_s=5)
    assert completion == Answer("hi", 0, 0, 0, None)


@pytest.mark.parametrize(
    "answer",
    [HI, http({"error": {"message": "no"}}, status="429 Too Many Requests")],
    ids=["success", "error"],
)
async def test_connection_is_reused(client: httpx.AsyncBaseTransport, answer: bytes) -> None:
    async with raw(answer) as server:
        for _ in range(3):
            with suppress(ProviderError):
                await call(client, with_key("openrouter", server.url), chat(), timeout_s=5)
    assert (server.connections, len(server.requests)) == (1, 3)


async def test_no_cookie_is_kept(client: httpx.AsyncBaseTransport) -> None:
    answer = http({"choices": [{"message": {"content": "hi"}}]}, "Set-Cookie: who=me; Path=/")
    async with raw(answer) as server:
        for _ in range(2):
            await call(client, with_key("openrouter", server.url), chat(), timeout_s=5)
    assert [b"\r\ncookie:" in request.lower() for request in server.requests] == [False, False]
