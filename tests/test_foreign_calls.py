"""Tests that foreign bodies are sent as they were written, and that answers are kept whole."""

from typing import Any

import httpx
import orjson
import pytest
from support.providers import endpoint_of
from support.raw_server import http, raw

from cli.simulator import Simulator
from shared.dialects.dialect import Answer, Operation
from shared.models import ErrorCode
from shared.providers import PROVIDERS, Provider
from shared.queue.item_request import ItemRequest
from shared.queue.verdict import Verdict
from shared.settings import ProviderSettings
from worker.providers.client import call
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError

OPENAI, ANTHROPIC, GEMINI, OLLAMA = (
    PROVIDERS[name] for name in ("openai", "anthropic", "gemini", "ollama")
)
BEARER, API_KEY, GOOGLE = (
    {"authorization": "Bearer k"},
    {"x-api-key": "k"},
    {"x-goog-api-key": "k"},
)
KEY_HEADERS = [name for header in (BEARER, API_KEY, GOOGLE) for name in header]

CHAT = '{ "messages":[{"role":"user","content":"hello there"}], "x":1.0E+2,"model" :'
RESPONSE = '{"input":"hello there","text":{"format":{"type":"text"}},"model":'
EMBEDDINGS = '{"input":["a","hello there"],"encoding_format":"float","model":'
MESSAGES = (
    '{"max_tokens":7,"messages":[{"role":"user","content":[{"type":"text","text":"hello there",'
    '"cache_control":{"type":"ephemeral"}}]}],"model":'
)
CONTENTS = '{"contents":[{"parts":[{"text":"hello there"}]}],"generationConfig":{"topK":1.0}'


def at(row: Provider, base_url: str) -> Endpoint:
    return endpoint_of(row, ProviderSettings(api_key="k", base_url=base_url))


def foreign(operation: Operation, *body: str, model: str = "m") -> ItemRequest:
    return {"provider": "p", "model": model, "operation": operation, "body": list(body)}


@pytest.mark.parametrize(
    ("row", "base", "operation", "start", "path", "header"),
    [
        (OPENAI, "/v1", Operation.CHAT, CHAT, "/v1/chat/completions", BEARER),
        (OPENAI, "/v1", Operation.RESPONSES, RESPONSE, "/v1/responses", BEARER),
        (OPENAI, "/v1", Operation.EMBEDDINGS, EMBEDDINGS, "/v1/embeddings", BEARER),
        (ANTHROPIC, "", Operation.MESSAGES, MESSAGES, "/v1/messages", API_KEY),
        (GEMINI, "/v1beta", Operation.CHAT, CHAT, "/v1beta/openai/chat/completions", BEARER),
        (
            GEMINI,
            "/v1beta",
            Operation.EMBEDDINGS,
            EMBEDDINGS,
            "/v1beta/openai/embeddings",
            BEARER,
        ),
        (OLLAMA, "", Operation.CHAT, CHAT, "/v1/chat/completions", BEARER),
        (OLLAMA, "", Operation.RESPONSES, RESPONSE, "/v1/responses", BEARER),
        (OLLAMA, "", Operation.EMBEDDINGS, EMBEDDINGS, "/v1/embeddings", BEARER),
    ],
)
async def test_a_body_is_sent_as_it_was_written(
    client: httpx.AsyncBaseTransport,
    simulator: Simulator,
    row: Provider,
    base: str,
    operation: Operation,
    start: str,
    path: str,
    header: dict[str, str],
) -> None:
    there = at(row, simulator.url + base)

    answer = await call(client, there, foreign(operation, start, ' , "é":1}'), timeout_s=5)

    [received] = simulator.received()
    assert (received.path, received.body) == (path, f'{start}"m" , "é":1}}'.encode())
    sent = {name: received.headers[name] for name in KEY_HEADERS if name in received.headers}
    assert sent == header
    assert answer.content == ("" if operation is Operation.EMBEDDINGS else "echo: hello there")
    assert answer.body is not None
    assert orjson.loads(answer.body)["model"] == "m"


@pytest.mark.parametrize(
    ("model", "body", "path"),
    [
        ("gemini-3-flash", [CONTENTS + "}"], "/v1beta/models/gemini-3-flash:generateContent"),
        (
            "models/gemini-3-flash",
            [CONTENTS + ',"model":', "}"],
            "/v1beta/models/gemini-3-flash:generateContent",
        ),
    ],
)
async def test_a_generate_content_body_is_sent_as_it_was_written(
    client: httpx.AsyncBaseTransport, simulator: Simulator, model: str, body: list[str], path: str
) -> None:
    there = at(GEMINI, f"{simulator.url}/v1beta")

    answer = await call(
        client, there, foreign(Operation.GENERATE_CONTENT, *body, model=model), timeout_s=5
    )

    [received] = simulator.received()
    assert (received.path, received.body) == (path, f'"{model}"'.join(body).encode())
    assert received.headers["x-goog-api-key"] == "k"
    assert "authorization" not in received.headers
    assert answer.content == "echo: hello there"


async def test_a_chat_body_for_anthropic_is_translated_both_ways(
    client: httpx.AsyncBaseTransport, simulator: Simulator
) -> None:
    tools = ',"tools":[{"type":"function","function":{"name":"weather"}}]}'
    messages = '{"messages":[{"role":"user","content":"call weather {\\"city\\":\\"Oslo\\"}"}]'
    request = foreign(Operation.CHAT, messages + ',"model":', tools, model="claude-sonnet-5")

    answer = await call(client, at(ANTHROPIC, simulator.url), request, timeout_s=5)

    [received] = simulator.received()
    assert orjson.loads(received.body) == {
        "model": "claude-sonnet-5",
        "max_tokens": 128_000,
        "messages": [{"role": "user", "content": 'call weather {"city":"Oslo"}'}],
        "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
    }
    assert received.headers["anthropic-version"] == "2023-06-01"
    assert answer.body is not None
    completion = orjson.loads(answer.body)
    [choice] = completion["choices"]
    assert completion["object"] == "chat.completion"
    assert isinstance(completion["created"], int)
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {
        "name": "weather",
        "arguments": '{"city":"Oslo"}',
    }


@pytest.mark.parametrize(
    ("row", "base"),
    [(OPENAI, "/v1"), (ANTHROPIC, ""), (GEMINI, "/v1beta"), (OLLAMA, "")],
    ids=["openai", "anthropic", "gemini", "ollama"],
)
async def test_a_native_request_works_in_each_dialect(
    client: httpx.AsyncBaseTransport, simulator: Simulator, row: Provider, base: str
) -> None:
    native: ItemRequest = {
        "provider": row.name,
        "model": "m",
        "chat": {
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": 'call weather {"city":"Oslo"}'},
            ],
            "tools": [{"type": "function", "function": {"name": "weather"}}],
        },
    }

    answer = await call(client, at(row, simulator.url + base), native, timeout_s=5)

    assert answer.message is not None
    [tool_call] = answer.message["tool_calls"]
    assert tool_call["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert (answer.content, answer.finish_reason, answer.body) == ("", "tool_calls", None)
    assert answer.total_tokens > 0


async def rejection(
    client: httpx.AsyncBaseTransport, there: Endpoint, request: ItemRequest
) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await call(client, there, request, timeout_s=5)
    assert caught.value.verdict is Verdict.REJECTED
    return caught.value


@pytest.mark.parametrize(
    ("row", "request_", "message"),
    [
        (
            OPENAI,
            foreign(Operation.MESSAGES, MESSAGES, "}"),
            "openai does not support messages",
        ),
        (
            ANTHROPIC,
            foreign(Operation.CHAT, CHAT, ',"seed":1}'),
            (
                "anthropic cannot take x: Anthropic has no such parameter; leave the field out,"
                " or add it to `unsupported` of the provider in providers.toml"
            ),
        ),
    ],
)
async def test_what_a_provider_cannot_take_is_not_sent(
    client: httpx.AsyncBaseTransport,
    simulator: Simulator,
    row: Provider,
    request_: ItemRequest,
    message: str,
) -> None:
    error = await rejection(client, at(row, simulator.url), request_)

    assert (error.code, error.message) == (ErrorCode.INVALID_REQUEST, message)
    assert simulator.received() == []


IMAGE = "data:image/png;base64," + "iVBORw0KGgo" * 300_000
PROMPT = "The patient Ada Lovelace, born in 1815, complains of a cough."


def body_with(**fields: Any) -> ItemRequest:
    return foreign(Operation.CHAT, orjson.dumps(fields).decode()[:-1] + ',"model":', "}")


@pytest.mark.parametrize(
    "request_",
    [
        body_with(messages=[{"role": "user", "content": PROMPT}]),
        body_with(messages=[{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]),
        body_with(instructions=PROMPT, input="a"),
        body_with(tools=[{"function": {"name": "f", "description": PROMPT}}]),
        body_with(metadata={"note": PROMPT}),
        body_with(a=[[{"b": [PROMPT]}]]),
    ],
)
async def test_what_a_user_wrote_anywhere_is_not_in_the_error(
    client: httpx.AsyncBaseTransport, request_: ItemRequest
) -> None:
    answer = http({"error": {"message": f"cannot take '{PROMPT}'"}}, status="400 Bad Request")
    async with raw(answer) as server:
        error = await rejection(client, at(OPENAI, server.url), request_)

    assert error.message == "openai answered 400: cannot take '…'"


async def test_names_in_a_body_stay_in_the_error(client: httpx.AsyncBaseTransport) -> None:
    reason = "model m: role user: response_format json_object needs high effort, not auto"
    request = body_with(
        messages=[{"role": "user", "content": "a"}],
        response_format={"type": "json_object"},
        reasoning_effort="high",
        tool_choice="auto",
    )
    async with raw(http({"error": {"message": reason}}, status="400 Bad Request")) as server:
        error = await rejection(client, at(OPENAI, server.url), request)

    assert error.message == f"openai answered 400: {reason}"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("the image is too large", "the image is too large"),
        (f"cannot read {IMAGE[:90]} as an image", "cannot read … as an image"),
        (f"cannot read {IMAGE} as an image", "cannot read …"),
    ],
)
async def test_an_image_hides_only_itself(
    client: httpx.AsyncBaseTransport, reason: str, shown: str
) -> None:
    part = {"type": "image_url", "image_url": {"url": IMAGE}}
    request = body_with(messages=[{"role": "user", "content": [part]}])
    async with raw(http({"error": {"message": reason}}, status="400 Bad Request")) as server:
        error = await rejection(client, at(OPENAI, server.url), request)

    assert error.message == f"openai answered 400: {shown}"


async def test_arguments_that_are_nested_too_deeply_are_a_bad_response(
    client: httpx.AsyncBaseTransport,
) -> None:
    block = b'{"type":"tool_use","name":"f","input":{"a":%s}}' % (b"[" * 500 + b"]" * 500)
    request = body_with(messages=[{"role": "user", "content": "a"}])
    async with raw(http(b'{"content":[%s]}' % block)) as server:
        with pytest.raises(ProviderError) as caught:
            await call(client, at(ANTHROPIC, server.url), request, timeout_s=5)

    error = caught.value
    assert (error.verdict, error.code) == (Verdict.UNFINISHED, ErrorCode.BAD_RESPONSE)


async def test_the_answer_to_a_foreign_request_is_stored_once(
    client: httpx.AsyncBaseTransport,
) -> None:
    """The parts of the answer that the body contains are not stored a second time."""
    reply = {
        "choices": [
            {"message": {"content": "hi", "refusal": "no"}, "logprobs": {"content": []}},
            {"message": {"content": "ho"}},
        ]
    }
    async with raw(http(reply)) as server:
        request = body_with(messages=[{"role": "user", "content": "a"}])
        answer = await call(client, at(OPENAI, server.url), request, timeout_s=5)

    assert answer == Answer("hi", body=orjson.dumps(reply).decode())
