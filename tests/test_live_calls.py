"""Tests calls of OpenAI's API that return a provider's answer."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from arq.connections import ArqRedis
from support.authentication import ANN, API_KEYS, BOB
from support.claims import accept, claim, finish
from support.in_process import running_worker, served_api
from support.providers import combined
from support.raw_server import http, raw
from support.results import finished
from support.stack import eventually

from api.errors.openai_call_errors import call_error
from api.errors.openai_errors import OpenAIError, error_content
from api.openai.answer_body import answer_body
from api.openai.model_list import ModelList, model_ids
from cli.simulator import Simulator
from shared.dialects.dialect import Operation
from shared.jobs.store import Store
from shared.models import ErrorCode
from shared.providers import PROVIDERS, Alias, Catalogue, Deployment
from shared.queue.claims import Queue
from shared.queue.leases import Settlement
from shared.queue.redis_keys import Keys
from shared.settings import ProviderSettings, Settings

CHAT = {"model": "openrouter/openai/GPT-X", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"
REPEATED = {"x-stainless-retry-count": "1"}


@pytest.fixture
def catalogue(providers: dict[str, ProviderSettings]) -> Catalogue:
    rows = combined({name: PROVIDERS[name] for name in (*providers, "anthropic")}, providers)
    known = rows.catalogue
    return Catalogue(
        known.rows, {"fast": Alias((Deployment("openrouter", "openai/x"),))}, known.configured
    )


@pytest.fixture
async def served(settings: Settings, catalogue: Catalogue) -> AsyncIterator[httpx.AsyncClient]:
    async with served_api(settings, catalogue) as client:
        yield client


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


async def jobs(redis: ArqRedis, keys: Keys, count: int) -> list[str]:
    """Returns the ids of all jobs, when there are `count`."""

    async def reached() -> bool:
        return bool(await redis.zcard(keys.jobs_by_owner("")) == count)

    await eventually(reached)
    return [job.decode() for job in await redis.zrange(keys.jobs_by_owner(""), 0, -1)]


async def joined(redis: ArqRedis, keys: Keys, job_id: str, count: int) -> None:
    """Waits until that many more clients wait for the job."""

    async def reached() -> bool:
        return int(await redis.hget(keys.job(job_id), "joined") or 0) == count  # type: ignore[misc]

    await eventually(reached)


async def test_a_repetition_joins_the_call_that_runs(
    served: httpx.AsyncClient,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    simulator: Simulator,
    redis: ArqRedis,
    keys: Keys,
) -> None:
    first = asyncio.create_task(served.post(PATH, json=CHAT))
    [job_id] = await jobs(redis, keys, 1)
    second = asyncio.create_task(served.post(PATH, json=CHAT, headers=REPEATED))
    await joined(redis, keys, job_id, 1)
    first.cancel()
    await joined(redis, keys, job_id, 0)

    async with running_worker(settings, providers):
        answer = await second
        again = await served.post(PATH, json=CHAT, headers=REPEATED)  # its answer may be lost

    assert answer.headers["location"] == again.headers["location"] == f"/jobs/{job_id}"
    assert answer.content == again.content
    assert len(simulator.received()) == 1


async def test_only_a_repetition_joins_and_each_joins_another_call(
    served: httpx.AsyncClient,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    keys: Keys,
) -> None:
    async def post(headers: dict[str, str] | None = None) -> str:
        return (await served.post(PATH, json=CHAT, headers=headers)).headers["location"]

    firsts = [asyncio.create_task(post()) for _ in range(2)]
    ids = await jobs(redis, keys, 2)
    again = [asyncio.create_task(post(REPEATED)) for _ in range(2)]
    for job_id in ids:
        await joined(redis, keys, job_id, 1)
    other = asyncio.create_task(served.post(PATH, json={**CHAT, "seed": 1}, headers=REPEATED))
    await jobs(redis, keys, 3)

    async with running_worker(settings, providers):
        answered = [await asyncio.gather(*calls) for calls in (firsts, again)]
        assert (await other).status_code == 200

    assert sorted(answered[0]) == sorted(answered[1]) == [f"/jobs/{i}" for i in sorted(ids)]


async def test_a_call_of_another_owner_is_not_joined(
    settings: Settings, catalogue: Catalogue, redis: ArqRedis, keys: Keys
) -> None:
    with_keys = Settings(_env_file=None, api_keys=API_KEYS).api_keys
    async with served_api(settings.model_copy(update={"api_keys": with_keys}), catalogue) as client:
        calls = [
            asyncio.create_task(
                client.post(PATH, json=CHAT, headers={**REPEATED, "authorization": f"Bearer {key}"})
            )
            for key in (ANN, BOB)
        ]

        async def has_both() -> bool:
            counts = [await redis.zcard(keys.jobs_by_owner(owner)) for owner in ("ann", "bob")]
            return counts == [1, 1]

        await eventually(has_both)
        for call in calls:
            call.cancel()


async def test_the_calls_that_can_be_joined_are_limited(
    store: Store, queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    live: dict[str, Any] = {"is_live": True, "body_digest": "d"}
    for number in range(102):
        await accept(store, f"j{number}", "a", **live)
    live_calls = keys.live_calls("", "d")

    assert await redis.llen(live_calls) == 100  # type: ignore[misc]
    assert await accept(store, "again", "a", **live, is_repetition=True) == "j2"
    assert await accept(store, "again", "a", **live, is_repetition=True) == "j3"

    await redis.ltrim(live_calls, 0, 0)  # type: ignore[misc]
    await finish(queue, await claim(queue, a=200))
    assert 0 < await redis.ttl(live_calls) <= 15


async def test_the_repetition_of_a_failed_call_joins_no_call_of_another_client(
    store: Store, queue: Queue
) -> None:
    """Two clients send the same body, and want two answers. One call fails and is repeated."""
    live: dict[str, Any] = {"is_live": True, "body_digest": "d"}
    await accept(store, "runs", "a", **live)
    await accept(store, "fails", "a", **live)
    [fails] = [lease for lease in await claim(queue, a=2) if lease.job_id == "fails"]
    await queue.settle_and_claim([Settlement(fails, "fail", b"{}")], None)

    assert await accept(store, "repeats", "a", **live, is_repetition=True) == "repeats"
    assert await accept(store, "joins", "a", **live, is_repetition=True) == "runs"


@pytest.mark.usefixtures("worker")
async def test_a_failed_call_is_made_again(served: httpx.AsyncClient, simulator: Simulator) -> None:
    body = {**CHAT, "model": "openrouter/sim-400x1"}

    first = await served.post(PATH, json=body)
    second = await served.post(PATH, json=body, headers=REPEATED)

    assert (first.status_code, second.status_code) == (400, 200)
    assert len(simulator.received()) == 2


async def test_a_client_that_disconnects_cancels_its_call(
    served: httpx.AsyncClient, redis: ArqRedis, keys: Keys
) -> None:
    first = asyncio.create_task(served.post(PATH, json=CHAT))
    [job_id] = await jobs(redis, keys, 1)
    first.cancel()

    async def is_abandoned() -> bool:
        return bool(await redis.hexists(keys.job(job_id), "abandoned_until_ms"))  # type: ignore[misc]

    await eventually(is_abandoned)
    second = asyncio.create_task(served.post(PATH, json=CHAT))

    async def is_taken() -> bool:
        return not await is_abandoned()

    await eventually(is_taken)
    second.cancel()
    await eventually(is_abandoned)
    assert await redis.zcard(keys.jobs_by_owner("")) == 1
