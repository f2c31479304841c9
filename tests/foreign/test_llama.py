"""Tests calls to llama.cpp's server of llama-cpp-python, with a tiny model of random weights.

CI does not run these tests, because it takes 8 minutes of CPU time to compile the server. By hand:

    tests/foreign/install DIRECTORY llama
    FOREIGN_SERVERS=DIRECTORY pytest -m foreign tests/foreign/test_llama.py

https://llama-cpp-python.readthedocs.io/en/latest/server/
"""

import json
import subprocess
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

KEY = "right-key-0123456789"
PROVIDERS_FILE = """
[providers.tiny]
base_url = "{url}/v1"

[providers.locked]
base_url = "{url}/v1"
"""
SWITCH = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
TOOLS = {
    "tools": [
        {
            "type": "function",
            "function": {"name": "switch", "description": "Switches.", "parameters": SWITCH},
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "switch"}},
}
# This server has no `json_schema`. Its `json_object` takes the schema instead.
JSON_OBJECT = {"type": "json_object", "schema": SWITCH}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "switch", "schema": SWITCH}}
# Without randomness the model answers each request in the same way.
FIXED: dict[str, Any] = {"temperature": 0, "max_tokens": 64}
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
MODELS: dict[str, dict[str, Any]] = {
    "chat": {"chat_format": "chatml-function-calling", "n_ctx": 1024},
    "embed": {"embedding": True, "n_ctx": 512},
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Makes a model, and starts the server. Yields its URL."""
    python = installed("llama") / "bin/python"
    directory = tmp_path_factory.mktemp("llama")
    script = Path(__file__).with_name("tiny_model.py")
    subprocess.run([python, script, directory / "tiny.gguf"], check=True)
    port = free_port()
    config = {
        "host": "127.0.0.1",
        "port": port,
        "api_key": KEY,
        "models": [
            {"model": "tiny.gguf", "model_alias": name, **options}
            for name, options in MODELS.items()
        ],
    }
    (directory / "config.json").write_text(json.dumps(config))
    argv = (python, "-m", "llama_cpp.server", "--config_file", "config.json")
    url = f"http://127.0.0.1:{port}"
    with running(*argv, url=f"{url}/v1/models", directory=directory, environment={}):
        yield url


@pytest.fixture
def providers_file(llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TINY_API_KEY", KEY)
    monkeypatch.setenv("LOCKED_API_KEY", "wrong-key-0123456789")
    file = tmp_path / "providers.toml"
    file.write_text(PROVIDERS_FILE.format(url=llama))
    return file


@pytest.fixture
async def orchestrator(settings: Settings, providers_file: Path) -> AsyncIterator[Product]:
    settings = settings.model_copy(update={"max_retries": 0})
    async with product(settings, providers_file) as running_product:
        yield running_product


async def own_body(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Returns what the server answers without the orchestrator."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=30, trust_env=False
    ) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    own: dict[str, Any] = answer.json()
    return own


def constant(body: dict[str, Any]) -> str:
    """Returns a body as text, without the ids and times, which differ in each answer."""
    text = json.dumps({name: value for name, value in body.items() if name != "created"})
    return text.replace(str(body.get("id")).removeprefix("chat"), "ID")


async def test_chat(orchestrator: Product, llama: str) -> None:
    own = await own_body(llama, CHAT, FIXED | {"model": "chat", "messages": HELLO})

    item = await orchestrator.native("tiny", model="chat", **FIXED)

    [choice] = own["choices"]
    assert (item["error"], item["content"]) == (None, choice["message"]["content"])
    assert item["finish_reason"] == choice["finish_reason"]
    assert item["total_tokens"] == own["usage"]["total_tokens"]


async def test_tools(orchestrator: Product) -> None:
    """The server answers `content: null`, but takes only a text."""
    first = await orchestrator.native("tiny", model="chat", **FIXED, **TOOLS)
    [call] = first["message"]["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "done"}

    called = first["message"] | {"content": ""}
    second = await orchestrator.native(
        "tiny", model="chat", messages=[*HELLO, called, result], **FIXED
    )

    assert (first["error"], first["content"]) == (None, "")
    assert call["function"]["name"] == "switch"
    assert isinstance(json.loads(call["function"]["arguments"])["on"], bool)
    assert second["error"] is None


async def test_json_schema(orchestrator: Product) -> None:
    """The server answers 500 for `json_schema`, so that the call is repeated if retries are on."""
    item = await orchestrator.native("tiny", model="chat", response_format=JSON_OBJECT, **FIXED)
    refused = await orchestrator.native("tiny", model="chat", response_format=JSON_SCHEMA)

    assert item["error"] is None
    assert isinstance(json.loads(item["content"])["on"], bool)
    assert refused["error_code"] == "provider_error"
    assert "Input should be 'text' or 'json_object'" in refused["error"]


async def test_bodies_of_openai(orchestrator: Product, llama: str) -> None:
    """The server has no `/v1/responses`."""
    chat = FIXED | {"model": "chat", "messages": HELLO}
    requests = [
        (CHAT, chat),
        (CHAT, chat | TOOLS),
        (CHAT, chat | {"response_format": JSON_OBJECT}),
        (EMBEDDINGS, {"model": "embed", "input": ["hello"]}),
    ]

    bodies = await orchestrator.bodies("tiny", *requests)

    expected = [await own_body(llama, path, body) for path, body in requests]
    assert list(map(constant, bodies)) == list(map(constant, expected))


async def test_a_path_that_the_server_does_not_have(orchestrator: Product) -> None:
    [body] = await orchestrator.bodies("tiny", ("/v1/responses", {"model": "m", "input": "hello"}))

    assert body["error"]["code"] == "invalid_request"
    assert body["error"]["message"].endswith("answered 404: Not Found")


async def test_an_unknown_model(orchestrator: Product) -> None:
    """The server answers with its first model."""
    item = await orchestrator.native("tiny", model="Gone/Model", **FIXED)

    assert (item["error"], item["model"]) == (None, "Gone/Model")


async def test_a_wrong_key(orchestrator: Product) -> None:
    item = await orchestrator.native("locked", model="chat", **FIXED)

    assert (item["error_code"], item["attempts"]) == ("unauthorized", 1)
    assert item["error"] == "locked answered 401: Invalid API key"


async def test_too_many_tokens(orchestrator: Product) -> None:
    long = [{"role": "user", "content": "x" * 2000}]

    item = await orchestrator.native("tiny", model="chat", messages=long)

    assert (item["error_code"], item["attempts"]) == ("invalid_request", 1)
    assert "This model's maximum context length is 1024 tokens" in item["error"]


async def test_the_check(environment: dict[str, str], providers_file: Path) -> None:
    settings = environment | {"TINY_API_KEY": KEY, "PROVIDERS_FILE": str(providers_file)}

    code, output = await run(settings, "providers", "check", "tiny", "--model", "chat")

    assert code == 0, output
    assert "The provider answered: " in output
    assert KEY not in output
