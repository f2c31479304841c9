"""Tests calls to LiteLLM's proxy, with mock answers, in the APIs of OpenAI, Anthropic and Gemini.

https://docs.litellm.ai/docs/proxy/quick_start
"""

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

KEY, WRONG_KEY = "sk-right-0123456789", "sk-wrong-0123456789"
PROVIDERS_FILE = """
[providers.litellm]
base_url = "{url}/v1"

[providers.litellm-claude]
base_url = "{url}"
dialect = "anthropic"
api_key_env = "LITELLM_API_KEY"

[providers.litellm-gemini]
base_url = "{url}/v1beta"
dialect = "gemini"
api_key_env = "LITELLM_API_KEY"

[providers.locked]
base_url = "{url}/v1"
"""
GREETING, ADA = "Hi thére! 😀", '{"name": "Ada"}'
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
}


def _model(name: str, model: str = "openai/gpt-4o-mini", **answer: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": model, "api_key": "none", **answer}}


# JSON is YAML, too.
CONFIG = {
    "model_list": [
        _model("Some/Model", mock_response=GREETING),
        _model("tools", mock_response="", mock_tool_calls=[CALL]),
        _model("json", mock_response=ADA),
        _model("limited", mock_response="litellm.RateLimitError"),
        _model("broken", mock_response="litellm.InternalServerError"),
        _model("embed", "openai/text-embedding-3-small", mock_response=[0.1, -0.5, 3.0]),
    ],
    "general_settings": {"master_key": KEY},
    "litellm_settings": {"num_retries": 0},
    "router_settings": {"num_retries": 0, "disable_cooldowns": True},
}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
# LiteLLM passes the schema on to a provider. A mock answer does not depend on it.
SCHEMA = {"type": "json_schema", "json_schema": {"name": "p", "schema": {"type": "object"}}}
CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
# Fields that differ in each answer, in any depth.
VARIABLE = ("id", "created", "created_at", "responseId")


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts LiteLLM's proxy. Yields its URL."""
    program = installed("litellm") / "bin/litellm"
    directory = tmp_path_factory.mktemp("litellm")
    (directory / "config.yaml").write_text(json.dumps(CONFIG, ensure_ascii=False), encoding="utf-8")
    port = free_port()
    options = ("--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    # Otherwise LiteLLM downloads a list of prices when it starts.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with running(
        *(program, *options), url=f"{url}/health/liveliness", directory=directory,
        environment=environment,
    ):  # fmt: skip
        yield url


@pytest.fixture
def providers_file(litellm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LITELLM_API_KEY", KEY)
    monkeypatch.setenv("LOCKED_API_KEY", WRONG_KEY)
    file = tmp_path / "providers.toml"
    file.write_text(PROVIDERS_FILE.format(url=litellm))
    return file


@pytest.fixture
async def orchestrator(settings: Settings, providers_file: Path) -> AsyncIterator[Product]:
    settings = settings.model_copy(update={"max_retries": 0})
    async with product(settings, providers_file) as running_product:
        yield running_product


async def own_body(url: str, path: str, body: dict[str, Any]) -> Any:
    """Returns what the server answers without the orchestrator."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=30, trust_env=False
    ) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer.json()


def constant(value: Any) -> Any:
    """Returns JSON without the fields that differ in each answer."""
    if isinstance(value, list):
        return [constant(item) for item in value]
    if isinstance(value, dict):
        return {name: constant(item) for name, item in value.items() if name not in VARIABLE}
    return value


@pytest.mark.parametrize("provider", ["litellm", "litellm-claude"])
async def test_native_requests(orchestrator: Product, provider: str) -> None:
    chat = await orchestrator.native(provider)
    structured = await orchestrator.native(provider, model="json", response_format=SCHEMA)

    assert (chat["error"], chat["content"], chat["finish_reason"]) == (None, GREETING, "stop")
    assert (structured["error"], structured["content"]) == (None, ADA)


async def test_tools(orchestrator: Product) -> None:
    """LiteLLM's mock answers in Messages have no tools."""
    first = await orchestrator.native("litellm", model="tools", tools=[TOOL])
    result = {"role": "tool", "tool_call_id": "call_1", "content": ""}

    second = await orchestrator.native("litellm", messages=[*HELLO, first["message"], result])

    assert (first["error"], first["content"]) == (None, "")
    assert first["message"]["tool_calls"] == [CALL]
    assert (second["error"], second["content"]) == (None, GREETING)


async def test_bodies_of_openai(orchestrator: Product, litellm: str) -> None:
    requests: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"model": "Some/Model", "messages": HELLO, "seed": 7}),
        (CHAT, {"model": "tools", "messages": HELLO, "tools": [TOOL]}),
        (CHAT, {"model": "json", "messages": HELLO, "response_format": SCHEMA}),
        (RESPONSES, {"model": "Some/Model", "input": "hello"}),
        (EMBEDDINGS, {"model": "embed", "input": ["hello"], "encoding_format": "float"}),
    ]

    bodies = await orchestrator.bodies("litellm", *requests)

    expected = [await own_body(litellm, path, body) for path, body in requests]
    assert list(map(json.dumps, map(constant, bodies))) == list(
        map(json.dumps, map(constant, expected))
    )
    assert bodies[4]["data"][0]["embedding"] == [0.1, -0.5, 3.0]


async def test_bodies_of_anthropic_and_gemini(orchestrator: Product, litellm: str) -> None:
    body = {"model": "Some/Model", "max_tokens": 9, "messages": HELLO}
    contents = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}

    [message] = await orchestrator.lines(
        "anthropic", {"custom_id": "c", "params": body}, provider="litellm-claude"
    )
    [generated] = await orchestrator.lines(
        *("gemini", {"key": "k", "request": contents}), provider="litellm-gemini", model="json"
    )

    assert constant(message["result"]["message"]) == constant(
        await own_body(litellm, "/v1/messages", body)
    )
    assert constant(generated["response"]) == constant(
        await own_body(litellm, "/v1beta/models/json:generateContent", contents)
    )


@pytest.mark.parametrize("provider", ["litellm", "litellm-claude"])
async def test_an_unknown_model(orchestrator: Product, provider: str) -> None:
    item = await orchestrator.native(provider, model="Gone/Model")

    assert (item["error_code"], item["attempts"]) == ("model_not_found", 1)
    assert "Invalid model name passed in model=Gone/Model" in item["error"]


async def test_a_wrong_key(orchestrator: Product) -> None:
    """LiteLLM looks for keys other than its own in a database. Without one it answers 400."""
    item = await orchestrator.native("locked")

    assert (item["error_code"], item["attempts"]) == ("invalid_request", 1)
    assert item["error"] == "locked answered 400: No connected db."


@pytest.mark.parametrize(
    ("model", "error_code", "words"),
    [
        ("limited", "rate_limited", "this is a mock rate limit error"),
        ("broken", "provider_error", "this is a mock internal server error"),
    ],
)
async def test_an_error(orchestrator: Product, model: str, error_code: str, words: str) -> None:
    item = await orchestrator.native("litellm", model=model)

    assert item["error_code"] == error_code
    assert words in item["error"]


async def test_the_check(environment: dict[str, str], providers_file: Path) -> None:
    settings = environment | {"LITELLM_API_KEY": KEY, "PROVIDERS_FILE": str(providers_file)}

    code, output = await run(settings, "providers", "check", "litellm", "--model", "Some/Model")

    assert code == 0, output
    assert f"The provider answered: {GREETING!r}" in output
    assert KEY not in output
