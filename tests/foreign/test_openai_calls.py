"""Tests live calls with OpenAI's client for Python, which checks the type of every field.

https://github.com/openai/openai-python
"""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types import Model
from pydantic import BaseModel
from support.openai_deployment import Deployment, run_javascript

pytestmark = pytest.mark.foreign

MODEL = "openrouter/openai/gpt-x"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


@pytest.fixture(scope="module")
def running(valkey_url: str) -> Iterator[Deployment]:
    with Deployment(valkey_url) as deployment:
        yield deployment


@pytest.fixture
def provider(running: Deployment) -> Deployment:
    running.simulate()
    return running


@pytest.fixture(scope="module")
def client(running: Deployment) -> Any:
    return running.client()


def asked(text: Any = "hi", model: str = MODEL, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def test_chat(client: Any, provider: Deployment) -> None:
    body = asked(seed=7, logit_bias={"50256": -100}, extra_body={"guided_regex": "a+"})

    completion = client.chat.completions.create(**body)

    [choice] = completion.choices
    assert (choice.message.content, choice.finish_reason) == ("echo: hi", "stop")
    assert completion.usage.total_tokens > 0
    assert completion._request_id  # noqa: SLF001 — the client documents it
    assert provider.received() == [
        {
            **asked(seed=7, logit_bias={"50256": -100}, guided_regex="a+"),
            "model": "openai/gpt-x",
        }
    ]


def test_raw_response(client: Any) -> None:
    raw = client.chat.completions.with_raw_response.create(
        **asked(), extra_headers={"X-Request-ID": "mine"}
    )

    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["location"].startswith("/jobs/")
    assert raw.request_id == "mine"
    assert raw.parse().choices[0].message.content == "echo: hi"


def test_tools(client: Any, provider: Deployment) -> None:
    question = {"role": "user", "content": 'call weather {"city":"Oslo"}'}

    first = client.chat.completions.create(model=MODEL, messages=[question], tools=[TOOL])
    message = first.choices[0].message
    [call] = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "cold"}
    second = client.chat.completions.create(
        model=MODEL, messages=[question, message, result], tools=[TOOL]
    )

    assert (first.choices[0].finish_reason, message.content) == ("tool_calls", None)
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert second.choices[0].message.content == "echo: cold"
    assert provider.received()[1]["messages"][1]["tool_calls"][0]["id"] == call.id


class Person(BaseModel):
    name: str


def test_structured_output(client: Any, provider: Deployment) -> None:
    """The simulator does not follow the schema, so the client says that the text is not JSON."""
    with pytest.raises(ValueError, match="Invalid JSON"):
        client.chat.completions.parse(**asked(), response_format=Person)

    [received] = provider.received()
    assert received["response_format"]["json_schema"]["schema"]["required"] == ["name"]


class City(BaseModel):
    city: str


def test_a_parsed_tool_call(client: Any) -> None:
    completion = client.chat.completions.parse(
        **asked('call City {"city":"Oslo"}'), tools=[openai.pydantic_function_tool(City)]
    )

    [call] = completion.choices[0].message.tool_calls
    assert call.function.parsed_arguments == City(city="Oslo")


def test_an_image(client: Any, provider: Deployment) -> None:
    content = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]

    completion = client.chat.completions.create(**asked(content))

    assert completion.choices[0].message.content == "echo: what is it?"
    assert provider.received()[0]["messages"][0]["content"] == content


@pytest.mark.parametrize(
    ("model", "error", "status", "code"),
    [
        ("openrouter/sim-400", "BadRequestError", 400, "invalid_request"),
        ("openrouter/sim-401", "AuthenticationError", 401, "invalid_api_key"),
        ("openrouter/sim-403", "PermissionDeniedError", 403, "invalid_api_key"),
        ("openrouter/sim-404", "NotFoundError", 404, "model_not_found"),
        ("nobody/x", "NotFoundError", 404, "model_not_found"),
        ("openrouter/sim-422", "UnprocessableEntityError", 422, "invalid_request"),
        ("openrouter/sim-402", "RateLimitError", 429, "insufficient_quota"),
        ("openrouter/sim-429", "RateLimitError", 429, "rate_limit_exceeded"),
        ("openrouter/sim-500", "InternalServerError", 500, "provider_error"),
        ("openrouter/sim-504", "InternalServerError", 504, "timeout"),
    ],
)
def test_each_status_is_an_exception(
    client: Any, model: str, error: str, status: int, code: str
) -> None:
    with pytest.raises(getattr(openai, error)) as raised:
        client.chat.completions.create(**asked(model=model))

    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert raised.value.param == ("model" if model == "nobody/x" else None)
    assert raised.value.type
    assert raised.value.request_id


@pytest.mark.parametrize(("status", "calls"), [(402, 1), (504, 1), (500, 3)])
def test_a_call_is_repeated_only_if_it_is_not_charged(
    client: Any, provider: Deployment, status: int, calls: int
) -> None:
    """`x-should-retry` decides. The client would repeat a call after each of these statuses."""
    with pytest.raises(openai.APIStatusError):
        client.with_options(max_retries=2).chat.completions.create(
            **asked(model=f"openrouter/sim-{status}")
        )

    assert len(provider.received()) == calls


def test_a_client_waits_as_long_as_the_provider_asks(client: Any, provider: Deployment) -> None:
    provider.simulate(retry_after="1.5")
    model = "openrouter/sim-429x1"
    started = time.monotonic()

    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(**asked("first", model=model))
    client.with_options(max_retries=1).chat.completions.create(**asked("second", model=model))

    assert raised.value.response.headers["retry-after-ms"] == "1500"
    assert time.monotonic() - started >= 1.5
    assert len(provider.received()) == 3


def test_a_repetition_after_a_time_out_is_one_call(client: Any, provider: Deployment) -> None:
    provider.simulate(latency_ms=2500)

    completion = client.with_options(timeout=1, max_retries=4).chat.completions.create(
        **asked("slow")
    )

    assert completion.choices[0].message.content == "echo: slow"
    assert len(provider.received()) == 1


def test_embeddings(client: Any, provider: Deployment) -> None:
    """The client asks for base64, unless it is told otherwise, and decodes it.

    It checks types before it decodes, so a strict client refuses every answer in base64.
    """
    model = "openrouter/embed"
    floats = client.embeddings.create(input=["a"], encoding_format="float", model=model)
    with openai.OpenAI(base_url=client.base_url, api_key="none") as lenient:
        default = lenient.embeddings.create(input="a", model=model)
        tokens = lenient.embeddings.create(input=[1, 2, 3], model=model)
        many = lenient.embeddings.create(input=["a"] * 2048, model=model)

    vector = [1, 0.5, 1 / 3, 0.25]
    assert default.data[0].embedding == pytest.approx(vector)
    assert floats.data[0].embedding == vector
    assert len(tokens.data) == 1
    assert [item.index for item in many.data] == list(range(2048))
    assert [body["encoding_format"] for body in provider.received()] == [
        *("float", "base64", "base64", "base64")
    ]


def test_responses(client: Any) -> None:
    response = client.responses.create(model=MODEL, input="hi")

    assert (response.output_text, response.status) == ("echo: hi", "completed")


def test_a_stream_of_a_response(client: Any) -> None:
    created, *deltas, completed = client.responses.create(model=MODEL, input="a b", stream=True)

    assert (created.type, created.response.status) == ("response.created", "in_progress")
    assert [event.delta for event in deltas] == ["echo:", "a", "b"]
    assert completed.response.output_text == "echo: a b"


def test_an_error_in_the_stream_of_a_response(client: Any) -> None:
    stream = client.responses.create(model="openrouter/sim-half", input="a b c d", stream=True)
    assert next(stream).type == "response.created"
    with pytest.raises(openai.APIError, match="connection") as raised:
        list(stream)

    assert raised.value.code == "connection_error"


def test_models(client: Any) -> None:
    assert list(client.models.list()) == []
    assert client.models.retrieve(MODEL).id == MODEL
    assert client.get(f"/models/{MODEL}", cast_to=Model).id == MODEL  # the slashes are not escaped
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/x")


def test_a_stream(client: Any, provider: Deployment) -> None:
    stream = client.chat.completions.create(
        **asked("a b"), stream=True, stream_options={"include_usage": True}
    )
    *chunks, last, usage = stream

    texts = [chunk.choices[0].delta.content for chunk in chunks]
    assert texts == ["", "echo:", " a", " b"]
    assert last.choices[0].finish_reason == "stop"
    assert (usage.choices, usage.usage.total_tokens) == ([], 5)
    assert provider.received()[0]["stream_options"] == {"include_usage": True}


def test_a_stream_without_usage_and_with_tools(client: Any, provider: Deployment) -> None:
    with client.chat.completions.stream(
        **asked('call weather {"city":"Oslo"}'), tools=[TOOL]
    ) as stream:
        events = list(stream)
        completion = stream.get_final_completion()

    assert "content.delta" not in {event.type for event in events}
    [call] = completion.choices[0].message.tool_calls
    assert (call.id[:5], call.function.arguments) == ("call_", '{"city":"Oslo"}')
    assert completion.usage is None
    assert provider.received()[0]["stream_options"] == {"include_usage": True}


def test_the_asynchronous_client(running: Deployment) -> None:
    async def texts() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=running.base_url, api_key="x") as client:
            stream = await client.chat.completions.create(**asked("a b"), stream=True)
            return [chunk.choices[0].delta.content async for chunk in stream]

    assert asyncio.run(texts()) == ["", "echo:", " a", " b", None]


def test_an_error_inside_a_stream(client: Any, provider: Deployment) -> None:
    body = asked("a b c d", model="openrouter/sim-error-object-500")
    stream = client.chat.completions.create(**body, stream=True)
    texts = [next(stream).choices[0].delta.content for _ in range(4)]
    with pytest.raises(openai.APIError, match="Provider failed") as raised:
        next(stream)

    assert texts == ["", "echo:", " a", " b"]
    assert raised.value.code == "provider_error"
    assert len(provider.received()) == 1


def test_a_stream_that_fails_before_it_begins_has_a_status(client: Any) -> None:
    with pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(**asked(model="openrouter/sim-401"), stream=True)


def test_a_connection_is_used_again_after_a_stream(running: Deployment) -> None:
    """The client of the SDK has one connection here, so that the second call has to wait for it."""
    limits = httpx2.Limits(max_connections=1)
    with (
        httpx2.Client(limits=limits, timeout=10) as http,
        openai.OpenAI(base_url=running.base_url, api_key="x", http_client=http) as client,
    ):
        for _ in range(2):
            list(client.chat.completions.create(**asked(), stream=True))
        completion = client.chat.completions.create(**asked())

    assert completion.choices[0].message.content == "echo: hi"


def test_the_client_for_javascript(provider: Deployment, tmp_path: Path) -> None:
    run_javascript("openai_calls.mjs", provider, tmp_path)
