"""Tests what providers get for a native request that uses the fields of an OpenAI chat request."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from support.in_process import running_api, running_worker
from support.recorder import Recorder, recorder

from shared.settings import ProviderSettings, Settings

SCHEMA = {"type": "object", "properties": {"x": {"type": "number", "maximum": 1.5}}}
PNG = "iVBORw0KGgo="
TOOL = {"name": "f", "description": "F.", "parameters": SCHEMA}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
QUESTION = [
    {"type": "text", "text": "Look."},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
]
MESSAGES = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "2"},
]
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}
SENT = {
    "messages": MESSAGES,
    "stop": ["END"],
    "tools": [{"type": "function", "function": TOOL}],
    "response_format": FORMAT,
    "top_k": 5,
}
ADDED = {"extra_body": {"top_k": 5}, "temperature": None, "max_tokens": 50, "stream": True}


@pytest.fixture
async def provider() -> AsyncIterator[Recorder]:
    async with recorder() as running:
        yield running


@pytest.fixture
async def api(settings: Settings, provider: Recorder) -> AsyncIterator[httpx.AsyncClient]:
    url = provider.url
    providers = {
        "openai": ProviderSettings(api_key="k", base_url=f"{url}/v1"),
        "groq": ProviderSettings(api_key="k", base_url=f"{url}/v1"),
        "anthropic": ProviderSettings(api_key="k", base_url=url),
        "gemini": ProviderSettings(api_key="k", base_url=f"{url}/v1beta"),
        "ollama": ProviderSettings(base_url=url),
    }
    async with running_api(settings) as client, running_worker(settings, providers):
        yield client


async def sent(
    api: httpx.AsyncClient, provider: Recorder, name: str, **fields: Any
) -> tuple[str, dict[str, Any]]:
    """Returns the path and the body of the call to the provider `name`."""
    known = {field: value for field, value in SENT.items() if field != "top_k"}
    request = {"provider": name, "model": "Org/M", **known, **ADDED, **fields}
    answer = await api.post("/batch", json={"requests": [request]})
    assert answer.status_code == 200, answer.text
    [response] = answer.json()["responses"]
    assert (response["error"], response["content"][0]) == (None, "h")
    [path], [body] = provider.paths, provider.bodies
    return path, json.loads(body)


async def test_openai(api: httpx.AsyncClient, provider: Recorder) -> None:
    path, body = await sent(api, provider, "openai", seed=7)

    assert path == "/v1/chat/completions"
    assert body == {"model": "Org/M", **SENT, "max_completion_tokens": 50, "seed": 7}


async def test_fields_that_a_provider_refuses_are_left_out(
    api: httpx.AsyncClient, provider: Recorder
) -> None:
    _, body = await sent(api, provider, "groq", logprobs=True, logit_bias={"1": -100})

    assert body == {"model": "Org/M", **SENT, "max_completion_tokens": 50}


async def test_gemini(api: httpx.AsyncClient, provider: Recorder) -> None:
    path, body = await sent(api, provider, "gemini", seed=7)

    assert path == "/v1beta/openai/chat/completions"
    assert body == {"model": "Org/M", **SENT, "max_tokens": 50}


async def test_anthropic(api: httpx.AsyncClient, provider: Recorder) -> None:
    path, body = await sent(api, provider, "anthropic")

    assert path == "/v1/messages"
    image = {"type": "base64", "media_type": "image/png", "data": PNG}
    assert body == {
        "model": "Org/M",
        "max_tokens": 50,
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look."},
                    {"type": "image", "source": image},
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "2"}],
            },
        ],
        "stop_sequences": ["END"],
        "top_k": 5,
        "tools": [{"name": "f", "description": "F.", "input_schema": SCHEMA}],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    }


async def test_ollama(api: httpx.AsyncClient, provider: Recorder) -> None:
    path, body = await sent(api, provider, "ollama")

    assert path == "/api/chat"
    call = {"id": "c1", "function": {"name": "f", "arguments": {"x": 1}}}
    assert body == {
        "model": "org/m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look.", "images": [PNG]},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "tool_name": "f", "content": "2"},
        ],
        "stream": False,
        "tools": SENT["tools"],
        "format": SCHEMA,
        "options": {"top_k": 5, "num_predict": 50, "stop": ["END"]},
    }


@pytest.mark.parametrize(
    ("name", "fields", "field"),
    [
        ("anthropic", {"n": 2}, ["n"]),
        ("ollama", {"tool_choice": "required"}, ["tool_choice"]),
        ("anthropic", {"extra_body": {"repeat_penalty": 2}}, ["repeat_penalty"]),
    ],
)
async def test_what_a_provider_cannot_express_is_refused(
    api: httpx.AsyncClient, name: str, fields: dict[str, Any], field: list[str]
) -> None:
    request = {"provider": name, "model": "m", "messages": MESSAGES[:2], **fields}

    answer = await api.post("/batch", json={"requests": [request]})

    assert answer.status_code == 422
    [error] = answer.json()["detail"]
    assert error["loc"] == ["body", "requests", 0, *field]
    assert error["msg"].startswith(f"{name} cannot take this: ")
