"""Tests calls to aimock, which imitates OpenAI, Anthropic, Gemini and Ollama, and checks keys.

https://github.com/CopilotKit/aimock
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.command import run
from support.foreign_server import installed, running
from support.product import HELLO, Product, product
from support.stack import free_port

from shared.settings import Settings

pytestmark = pytest.mark.foreign

KEY, WRONG_KEY = "right-key-0123456789", "wrong-key-0123456789"
# Name of a provider → end of its base URL.
PROVIDERS = {"openai": "/v1", "anthropic": "", "gemini": "/v1beta", "ollama": ""}
PROVIDER = """
[providers.mock-{dialect}]
base_url = "{url}{path}"
dialect = "{dialect}"
api_key_env = "MOCK_KEY"

[providers.locked-{dialect}]
base_url = "{url}{path}"
dialect = "{dialect}"
api_key_env = "WRONG_MOCK_KEY"
"""
NO_MODEL = "The model `Gone/Model` does not exist"
ADA, GRACE = '{"name": "Ada"}', '{"name": "Grace"}'
# Without `id` and `created` aimock would answer each call with another id and another time.
FIXED = {"id": "fixed-1", "created": 1_700_000_000}
FIXTURES = [
    {
        "match": {"model": "Gone/Model"},
        "response": {
            "status": 404,
            "error": {
                "message": NO_MODEL,
                "type": "invalid_request_error",
                "code": "model_not_found",
            },
        },
    },
    {
        "match": {"toolName": "get_weather", "hasToolResult": False},
        "response": FIXED
        | {"toolCalls": [{"id": "call_1", "name": "get_weather", "arguments": '{"city": "Oslo"}'}]},
    },
    {
        "match": {"hasToolResult": True, "toolName": "get_weather", "toolResultContains": "4.50"},
        "response": {"content": "It is cold."},
    },
    {
        "match": {"responseFormat": "json_schema", "userMessage": "name"},
        "response": FIXED | {"content": ADA},
    },
    {"match": {"userMessage": "name"}, "response": {"content": GRACE}},
    {
        "match": {"userMessage": "hello"},
        "response": FIXED | {"content": "Hi thére! 😀", "systemFingerprint": "fp_1"},
    },
    {"match": {"inputText": "hello"}, "response": {"embedding": [0.1, -1e-7, 3]}},
]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
WEATHER = [{"role": "user", "content": "How is the weather?"}]
NAME = [{"role": "user", "content": "Give me a name."}]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
}
CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts aimock. Yields its URL."""
    program = installed("aimock") / "node_modules/@copilotkit/aimock/dist/cli.js"
    directory = tmp_path_factory.mktemp("aimock")
    (directory / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}))
    port = free_port()
    options = ("--strict", "--validate-on-load", "-f", "fixtures.json", "-p", str(port))
    url = f"http://127.0.0.1:{port}"
    environment = {"AIMOCK_API_KEYS": KEY}
    with running("node", program, *options, url=url, directory=directory, environment=environment):
        yield url


@pytest.fixture
def providers_file(aimock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOCK_KEY", KEY)
    monkeypatch.setenv("WRONG_MOCK_KEY", WRONG_KEY)
    file = tmp_path / "providers.toml"
    sections = [PROVIDER.format(dialect=d, url=aimock, path=path) for d, path in PROVIDERS.items()]
    file.write_text("".join(sections))
    return file


@pytest.fixture
async def orchestrator(settings: Settings, providers_file: Path) -> AsyncIterator[Product]:
    async with product(settings, providers_file) as running_product:
        yield running_product


async def own_body(url: str, path: str, body: dict[str, Any]) -> Any:
    """Returns what the server answers without the orchestrator."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer.json()


@pytest.mark.parametrize("dialect", PROVIDERS)
async def test_chat(orchestrator: Product, dialect: str) -> None:
    item = await orchestrator.native(f"mock-{dialect}")

    assert (item["error"], item["content"], item["finish_reason"]) == (None, "Hi thére! 😀", "stop")
    assert (item["provider"], item["model"]) == (f"mock-{dialect}", "Some/Model")


@pytest.mark.parametrize("dialect", PROVIDERS)
async def test_tools(orchestrator: Product, dialect: str) -> None:
    first = await orchestrator.native(f"mock-{dialect}", messages=WEATHER, tools=[TOOL])
    message = first["message"]
    [call] = message["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": '{"celsius": 4.50}'}

    second = await orchestrator.native(
        f"mock-{dialect}", messages=[*WEATHER, message, result], tools=[TOOL]
    )

    assert (first["error"], first["content"], first["finish_reason"]) == (None, "", "tool_calls")
    assert (call["type"], call["function"]["name"]) == ("function", "get_weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}
    assert (second["error"], second["content"]) == (None, "It is cold.")


@pytest.mark.parametrize(
    ("dialect", "content"),
    [
        ("openai", ADA),
        ("gemini", ADA),
        # aimock does not read `output_config` of Messages and `format` of Ollama's chat.
        ("anthropic", GRACE),
        ("ollama", GRACE),
    ],
)
async def test_json_schema(orchestrator: Product, dialect: str, content: str) -> None:
    item = await orchestrator.native(f"mock-{dialect}", messages=NAME, response_format=SCHEMA)

    assert (item["error"], item["content"]) == (None, content)


@pytest.mark.parametrize("provider", ["mock-openai", "mock-ollama"])
async def test_bodies_of_openai(orchestrator: Product, aimock: str, provider: str) -> None:
    requests: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"model": "Some/Model", "messages": HELLO, "seed": 7}),
        (CHAT, {"model": "Some/Model", "messages": WEATHER, "tools": [TOOL]}),
        (CHAT, {"model": "Some/Model", "messages": NAME, "response_format": SCHEMA}),
        (RESPONSES, {"model": "Some/Model", "input": "hello"}),
        (EMBEDDINGS, {"model": "Some/Model", "input": ["hello"], "encoding_format": "float"}),
    ]

    bodies = await orchestrator.bodies(provider, *requests)

    expected = [await own_body(aimock, path, body) for path, body in requests]
    for body in (bodies[3], expected[3]):  # each call has another id there
        body["output"][0].pop("id")
    assert [json.dumps(body) for body in bodies] == [json.dumps(body) for body in expected]


async def test_bodies_for_gemini(orchestrator: Product, aimock: str) -> None:
    chat = {"model": "Some/Model", "messages": HELLO}
    contents = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}

    [completion] = await orchestrator.bodies("mock-gemini", (CHAT, chat))
    [result] = await orchestrator.lines(
        "gemini", {"key": "k", "request": contents}, provider="mock-gemini", model="Some-Model"
    )

    assert completion == await own_body(aimock, CHAT, chat)
    assert result["key"] == "k"
    assert result["response"] == await own_body(
        aimock, "/v1beta/models/Some-Model:generateContent", contents
    )


async def test_bodies_for_anthropic(orchestrator: Product, aimock: str) -> None:
    body = {"model": "Some/Model", "max_tokens": 9, "messages": HELLO}

    [result] = await orchestrator.lines(
        "anthropic", {"custom_id": "c", "params": body}, provider="mock-anthropic"
    )
    [completion] = await orchestrator.bodies("mock-anthropic", (CHAT, body))

    assert (result["custom_id"], result["result"]["type"]) == ("c", "succeeded")
    assert result["result"]["message"] == await own_body(aimock, "/v1/messages", body)
    assert completion["object"] == "chat.completion"
    assert completion["choices"][0]["message"]["content"] == "Hi thére! 😀"


@pytest.mark.parametrize("dialect", PROVIDERS)
async def test_an_unknown_model(orchestrator: Product, dialect: str) -> None:
    item = await orchestrator.native(f"mock-{dialect}", model="Gone/Model")

    assert (item["error_code"], item["attempts"]) == ("model_not_found", 1)
    assert item["error"] == f"mock-{dialect} answered 404: {NO_MODEL}"


@pytest.mark.parametrize("dialect", PROVIDERS)
async def test_a_wrong_key(orchestrator: Product, dialect: str) -> None:
    item = await orchestrator.native(f"locked-{dialect}")

    assert (item["error_code"], item["attempts"]) == ("unauthorized", 1)
    assert item["error"] == f"locked-{dialect} answered 401: Invalid API key"


@pytest.mark.parametrize("dialect", PROVIDERS)
async def test_the_check(environment: dict[str, str], providers_file: Path, dialect: str) -> None:
    variables = {"MOCK_KEY": KEY, "WRONG_MOCK_KEY": WRONG_KEY}
    settings = environment | variables | {"PROVIDERS_FILE": str(providers_file)}

    right, wrong = await asyncio.gather(
        *(
            run(settings, "providers", "check", f"{prefix}-{dialect}", "--model", "Some/Model")
            for prefix in ("mock", "locked")
        )
    )

    assert right[0] == 0, right[1]
    assert "The provider answered: 'Hi thére! 😀'" in right[1]
    assert KEY not in right[1]
    assert (wrong[0], wrong[1].splitlines()[-1]) == (1, "The provider refused the call with 401.")
    assert WRONG_KEY not in wrong[1]
