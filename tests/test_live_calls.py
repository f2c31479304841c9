"""Tests calls of OpenAI's API that return a provider's answer."""

from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from support.live_calls import CHAT, PATH
from support.providers import combined
from support.raw_server import http, raw
from support.results import finished

from api.errors.openai_call_errors import call_error
from api.errors.openai_errors import OpenAIError, error_content
from api.openai.answer_body import answer_body
from api.openai.model_list import ModelList, model_ids
from cli.simulator import Simulator
from shared.dialects.dialect import Operation
from shared.models import ErrorCode
from shared.providers import PROVIDERS, Alias, Catalogue, Deployment
from shared.settings import ProviderSettings


@pytest.fixture
def catalogue(providers: dict[str, ProviderSettings]) -> Catalogue:
    rows = combined({name: PROVIDERS[name] for name in (*providers, "anthropic")}, providers)
    known = rows.catalogue
    return Catalogue(
        known.rows, {"fast": Alias((Deployment("openrouter", "openai/x"),))}, known.configured
    )


@pytest.mark.usefixtures("worker")
async def test_an_answer_is_the_providers(api: httpx.AsyncClient, simulator: Simulator) -> None:
    body = '{"messages":[{"role":"user","content":"hi"}],"metadata":{"a":"b"},"seed":1.0E+2'

    answer = await api.post(
        PATH,
        content=f'{body},"model":"openrouter/openai/GPT-X" }}',
        headers={"content-type": "application/json"},
    )

    [received] = simulator.received()
    assert received.body.decode() == f'{body},"model":"openai/gpt-x"}}'
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "echo: hi"
    job = (await api.get(answer.headers["location"])).json()
    assert orjson.dumps(job["responses"][0]["body"]) == answer.content
    assert (job["total_requests"], job["format"]) == (1, "openai")


@pytest.mark.usefixtures("worker")
async def test_each_endpoint_is_called_at_the_provider(
    api: httpx.AsyncClient, simulator: Simulator
) -> None:
    model = "openrouter/embed"
    given: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", {"model": model, "messages": CHAT["messages"]}),
        ("/v1/embeddings", {"model": "m", "input": ["a", "b"]}),
        ("/v1/responses", {"model": "m", "input": "a"}),
    ]

    for path, body in given:
        query = {} if body["model"] == model else {"provider": "openrouter"}
        assert (await api.post(path, json=body, params=query)).status_code == 200

    assert [call.path for call in simulator.received()] == [f"/api{path}" for path, _ in given]


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param", "words"),
    [
        (PATH, b"[]", 400, None, None, "must be a JSON object"),
        (PATH, b"\xff", 400, None, None, "not UTF-8"),
        (PATH, b'{"messages":[]}', 400, None, "model", "has no `model`"),
        (PATH, b'{"model":"ollama/x"}', 400, None, None, "must have `messages`"),
        (PATH, b'{"model":"x","messages":[]}', 404, "model_not_found", "model", "DEFAULT_PROVIDER"),
        (
            PATH,
            b'{"model":"anthropic/x","messages":[]}',
            *(404, "model_not_found", "model", "set ANTHROPIC_API_KEY"),
        ),
        (
            "/v1/responses?provider=anthropic",
            b'{"model":"x","input":"a"}',
            *(400, None, None, "anthropic does not take a body for responses"),
        ),
        (
            f"{PATH}?provider=anthropic",
            b'{"model":"x","messages":[{"role":"user","content":"a"}],"seed":1}',
            *(400, None, "seed", "anthropic cannot take this"),
        ),
    ],
)
async def test_a_call_that_cannot_be_made_is_refused(
    api: httpx.AsyncClient,
    path: str,
    body: bytes,
    status: int,
    code: str | None,
    param: str | None,
    words: str,
) -> None:
    answer = await api.post(path, content=body, headers={"content-type": "application/json"})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert words in error["message"]


@pytest.mark.parametrize(
    ("code", "given", "status", "openai_code", "retry"),
    [
        (ErrorCode.RATE_LIMITED, 429, 429, "rate_limit_exceeded", True),
        (ErrorCode.OVERLOADED, 529, 503, "server_is_overloaded", True),
        (ErrorCode.QUOTA_EXHAUSTED, 429, 429, "insufficient_quota", False),
        (ErrorCode.PAYMENT_REQUIRED, 402, 429, "insufficient_quota", False),
        (ErrorCode.UNAUTHORIZED, 403, 403, "invalid_api_key", False),
        (ErrorCode.UNAUTHORIZED, None, 401, "invalid_api_key", False),
        (ErrorCode.MODEL_NOT_FOUND, 400, 404, "model_not_found", False),
        (ErrorCode.CONTEXT_TOO_LONG, 413, 400, "context_length_exceeded", False),
        (ErrorCode.CONTENT_FILTERED, 403, 400, "content_filter", False),
        (ErrorCode.INVALID_REQUEST, 422, 422, "invalid_request", False),
        (ErrorCode.PROVIDER_ERROR, 500, 500, "provider_error", True),
        (ErrorCode.PROVIDER_ERROR, 200, 502, "provider_error", True),
        (ErrorCode.CONNECTION_ERROR, None, 503, "connection_error", True),
        (ErrorCode.TIMEOUT, 524, 504, "timeout", False),
    ],
)
def test_each_failure_has_its_status_and_code(
    code: ErrorCode, given: int | None, status: int, openai_code: str, *, retry: bool
) -> None:
    error = call_error(finished(error="why", error_code=code, status_code=given))

    assert (error.status_code, error.code, error.retry) == (status, openai_code, retry)
    assert error.message == "why"


def refused(error_code: ErrorCode, **refusal: Any) -> OpenAIError:
    answer = finished(error="why", error_code=error_code, status_code=400, refusal=refusal)
    return call_error(answer)


def test_an_error_has_the_names_of_the_provider() -> None:
    names = {"type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}

    error = refused(ErrorCode.INVALID_REQUEST, **names)
    known = refused(ErrorCode.CONTEXT_TOO_LONG, code="string_above_max_length", param="messages")

    assert error_content(error) == {"message": "why", **names}
    assert (known.code, known.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize(("wait_s", "seconds", "ms"), [(0.25, "1", "250"), (600, "120", "120000")])
def test_a_client_is_told_how_long_to_wait(wait_s: float, seconds: str, ms: str) -> None:
    headers = refused(ErrorCode.RATE_LIMITED, wait_s=wait_s).headers

    assert headers == {"Retry-After": seconds, "retry-after-ms": ms}
    assert refused(ErrorCode.QUOTA_EXHAUSTED, wait_s=wait_s).headers == {}


def test_every_error_code_has_a_status() -> None:
    for code in ErrorCode:
        assert call_error(finished(error="why", error_code=code)).status_code >= 400


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        (
            Operation.CHAT,
            '{"id":"i","object":"o","created":1.0E1,"model":"x"}',
            '{"id":"i","object":"o","created":1.0E1,"model":"x"}',
        ),
        (
            Operation.CHAT,
            '{"choices":[],"id":null}',
            '{"choices":[],"id":"chatcmpl-j","object":"chat.completion","model":"m","created":7}',
        ),
        (
            Operation.EMBEDDINGS,
            '{"data":[]}',
            '{"data":[],"object":"list","model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}',
        ),
        (
            Operation.RESPONSES,
            '{"output":[]}',
            '{"output":[],"object":"response","model":"m","id":"resp_j","created_at":7}',
        ),
        (Operation.CHAT, '{"x":1e999}', '{"x":1e999}'),
    ],
)
def test_a_body_gets_the_fields_that_clients_need(
    operation: Operation, body: str, expected: str
) -> None:
    assert answer_body(operation, finished(body=body), "j").decode() == expected


async def test_models(api: httpx.AsyncClient) -> None:
    alias = {"id": "fast", "object": "model", "created": 0, "owned_by": "openrouter"}

    assert (await api.get("/v1/models")).json() == {"object": "list", "data": [alias]}
    assert (await api.get("/v1/models/fast")).json() == alias
    for path in ("openrouter/openai/x", "openrouter%2Fopenai%2Fx"):
        model = (await api.get(f"/v1/models/{path}")).json()
        assert model == {**alias, "id": "openrouter/openai/x"}
    unknown = await api.get("/v1/models/nobody/x")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("listed", "ids"),
    [
        ({"object": "list", "data": [{"id": "openai/x"}, {"id": "b"}]}, ["openai/x", "b"]),
        (
            {"models": [{"name": "models/gemini-3"}, {"name": "llama3.2:3b"}]},
            ["gemini-3", "llama3.2:3b"],
        ),
        ([{"id": "Meta/L"}], ["Meta/L"]),
        ({"data": [{"id": 1}, "x", {}], "models": None}, []),
        ({"error": "no"}, []),
        (None, []),
    ],
)
def test_the_models_that_a_provider_lists(listed: Any, ids: list[str]) -> None:
    assert model_ids(listed) == ids


async def test_the_models_of_providers_are_listed_and_kept(catalogue: Catalogue) -> None:
    async with raw(http({"data": [{"id": "openai/x"}]})) as server:
        rows = {
            **catalogue.rows,
            "openrouter": replace(catalogue.rows["openrouter"], base_url=server.url),
        }
        known = replace(catalogue, rows=rows)
        settings = {"openrouter": ProviderSettings(api_key="k"), "ollama": ProviderSettings()}
        models = ModelList(known, settings)

        for _ in range(2):
            assert [model.id for model in (await models.models()).data] == [
                "fast",
                "openrouter/openai/x",
            ]

    [request] = server.requests
    assert request.startswith(b"GET /models HTTP/1.1\r\n")
    assert b"authorization: bearer k" in request.lower()
