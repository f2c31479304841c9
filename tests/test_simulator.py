"""Tests the answers of the simulator in each dialect, its settings, and its process."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from support.simulated import (
    PATHS,
    ask,
    both_dialects,
    chat_body,
    ledger,
    provider,
    stats,
    stats_when,
)

from cli.simulator import Behaviour, Simulator
from cli.simulator.behaviour import load_behaviour

# Counting lines would double its time, and other tests run the same lines.
pytestmark = pytest.mark.no_cover


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with provider() as client:
        yield client


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
