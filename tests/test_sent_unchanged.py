"""Tests that a provider gets what the client wrote, and the client gets what the provider wrote."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.in_process import running_api, running_worker
from support.recorder import (
    CHAT,
    EMBEDDINGS,
    GENERATE_CONTENT,
    MESSAGES,
    RESPONSES,
    Recorder,
    recorder,
)

from shared.settings import Settings
from shared.settings.providers import load_providers

FILE = """
[providers.recorder]
base_url = "{url}/v1"
max_concurrent_requests = 1

[providers.claude]
base_url = "{url}"
dialect = "anthropic"
max_concurrent_requests = 1

[providers.gem]
base_url = "{url}/v1beta"
dialect = "gemini"
max_concurrent_requests = 1

[models.mapped]
deployments = [{{ provider = "recorder", model = "Mapped/Model" }}]
"""
NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}
SAMPLES = Path(__file__).parents[2] / "shared" / "corpus"
MORE = sorted(
    path
    for path in (SAMPLES.glob("*.json*") if SAMPLES.is_dir() else ())
    if int(path.name[:2]) <= 48 or path.name[:2] in {"56", "57", "58", "59", "71"}
)
CHAT_LINES = """{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "GPT-x", "temperature": 1.0, "seed": 12345678901234567890123, "messages": [{"role": "developer", "content": [{"type": "text", "text": "\\ud83d\\ude00"}]}], "n": 1, "top_p": null}}
{"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"content": "x", "role": "user"}], "model": "mapped", "stream": true, "logit_bias": {"50256": -1E2}}, "metadata": {"row": 1.50}}
"""  # noqa: E501 — lines of a file


@pytest.fixture
async def provider() -> AsyncIterator[Recorder]:
    async with recorder() as running:
        yield running


@pytest.fixture
async def api(
    settings: Settings, provider: Recorder, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    file = tmp_path / "providers.toml"
    file.write_text(FILE.format(url=provider.url))
    settings = settings.model_copy(update={"providers_file": file, "default_provider": "recorder"})
    providers = load_providers(settings)
    async with (
        running_api(settings, providers.catalogue) as client,
        running_worker(settings, providers),
    ):
        yield client


def exact(text: str) -> Any:
    """Returns the JSON as a value that keeps the order of fields and every digit."""
    return json.loads(text, object_pairs_hook=tuple, parse_int=str, parse_float=str)


def without(value: Any, *names: str) -> Any:
    return tuple(pair for pair in value if pair[0] not in names)


def documents(text: str) -> list[Any]:
    """Returns the JSON values in the text, which may be pretty-printed."""
    decoder = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str)
    found, position = [], 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        value, position = decoder.raw_decode(text, position)
        found.append(value)
    return found


async def results(api: httpx.AsyncClient, text: str, **query: str) -> tuple[dict[str, Any], str]:
    """Submits a job, and returns the job and the results in the format of `query["results"]`."""
    result_format = query.pop("results")
    answer = await api.post("/jobs", content=text.encode(), headers=NDJSON, params=query)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    path = f"/jobs/{job['job_id']}/results"
    return job, (await api.get(path, params={"format": result_format})).text


async def test_openai_batch(api: httpx.AsyncClient, provider: Recorder) -> None:
    job, text = await results(api, CHAT_LINES, results="openai")

    assert (job["format"], job["providers"]) == ("openai-batch", {"recorder": 2})
    first, second = map(exact, provider.bodies)
    written = [dict(line)["body"] for line in map(exact, CHAT_LINES.splitlines())]
    assert first == written[0]
    assert second == without(
        tuple((n, "Mapped/Model" if n == "model" else v) for n, v in written[1]), "stream"
    )
    lines = [dict(exact(line)) for line in text.splitlines()]
    assert [line["custom_id"] for line in lines] == ["a", "b"]
    assert [dict(line["response"])["body"] for line in lines] == [exact(CHAT)] * 2
    assert "metadata" not in lines[0]
    assert lines[1]["metadata"] == (("row", "1.50"),)


NATIVE = '{"provider":"recorder","model":"M","messages":[{"role":"user","content":"x"}]}'


@pytest.mark.parametrize(
    ("text", "query", "job_format"),
    [
        (CHAT_LINES, {}, "openai-batch"),
        (json.dumps(json.loads(CHAT_LINES.splitlines()[0]), indent=2), {}, "openai-batch"),
        ('\n{"model": "M",\n"messages": []}', {}, "openai"),
        ('{"messages": []}', {"model": "M"}, "openai"),
        (NATIVE, {}, None),
        (f"{NATIVE}\r\n{NATIVE}", {}, None),
    ],
)
async def test_requests_that_are_sent_as_json(
    api: httpx.AsyncClient,
    provider: Recorder,
    text: str,
    query: dict[str, str],
    job_format: str | None,
) -> None:
    """A file of one or more requests is no batch, but clients send it with the type of JSON."""
    answer = await api.post("/jobs", content=text, headers=JSON, params=query)

    assert answer.status_code == 202, answer.text
    assert answer.json().get("format") == job_format
    items = (await api.get(f"/jobs/{answer.json()['job_id']}/results")).text.splitlines()
    assert [json.loads(item)["error"] for item in items] == [None] * len(documents(text))
    assert len(provider.bodies) == len(items)


@pytest.mark.parametrize(
    ("text", "query", "loc", "reason"),
    [
        ("{}", {}, ["body", "requests"], "Field required"),
        ('{"requests": [], "messages": []}', {}, ["body", "requests"], "at least 1 item"),
        ('{"requests": []}', {"provider": "recorder"}, ["body", "requests"], "at least 1 item"),
        ("[]", {}, ["body"], "should be an object"),
        ('{"messages": [}', {}, ["body"], "Invalid JSON"),
        ('{"messages": []}', {}, ["body", "line", 1, "model"], "has no `model`"),
        ("{}", {"format": "openai"}, ["body", "line", 1, "model"], "has no `model`"),
        ('{"messages": []}', {"provider": "rekorder"}, ["query", "provider"], "did you mean"),
        ('{"messages": []}', {"model": " "}, ["query", "model"], "must not be blank"),
        (
            '{"requests": [{"params": {}}], "deadline_s": 1}',
            {},
            ["body", "requests", 0, "provider"],
            "Field required",
        ),
        (
            '{"requests": [{"params": {}}, 7]}',
            {"model": "claude/m"},
            ["body", "line", 1, "params"],
            "must have `messages`",
        ),
        (f'{{"requests": [{NATIVE}]}}', {"model": "m"}, ["body"], "is in the native format"),
        (
            NATIVE.replace("}]}", '}], "seed": 1e30}'),
            {},
            ["body", "line", 1, "seed"],
            "64 bits",
        ),
    ],
)
async def test_what_is_refused_of_json(
    api: httpx.AsyncClient, text: str, query: dict[str, str], loc: list[str | int], reason: str
) -> None:
    answer = await api.post("/jobs", content=text, headers=JSON, params=query)

    assert answer.status_code == 422
    [first, *_] = answer.json()["detail"]
    assert first["loc"] == loc
    assert reason in first["msg"]


async def test_native_results_of_a_foreign_job(api: httpx.AsyncClient) -> None:
    job, text = await results(api, CHAT_LINES, results="native")

    first, second = (json.loads(line) for line in text.splitlines())
    assert (first["request_id"], first["model"], first["content"]) == ("a", "GPT-x", "hé /")
    assert (first["total_tokens"], first["finish_reason"]) == (7, "stop")
    assert dict(exact(text.splitlines()[0]))["body"] == exact(CHAT)
    assert second["metadata"] == {"row": 1.5}
    answer = await api.get(f"/jobs/{job['job_id']}")
    assert answer.json()["format"] == "openai-batch"
    assert [response["request_id"] for response in answer.json()["responses"]] == ["a", "b"]
    assert '"z":12345678901234567890123' in answer.text.replace(" ", "")


@pytest.mark.parametrize(
    ("line", "query", "job_format", "path", "answer", "body"),
    [
        (
            {"model": "m", "input": "x"},
            {},
            "openai",
            "/v1/responses",
            RESPONSES,
            lambda line: dict(line["response"])["body"],
        ),
        (
            {"model": "embed-1", "input": [[1, 2]]},
            {},
            "openai",
            "/v1/embeddings",
            EMBEDDINGS,
            lambda line: dict(line["response"])["body"],
        ),
        (
            {"custom_id": "c", "params": {"model": "claude/M", "max_tokens": 9, "messages": []}},
            {},
            "anthropic-batch",
            "/v1/messages",
            MESSAGES,
            lambda line: dict(line["result"])["message"],
        ),
        (
            {"key": "k", "request": {"contents": [], "generationConfig": {"temperature": 1.0}}},
            {"model": "gem/g-1"},
            "gemini-batch",
            "/v1beta/models/g-1:generateContent",
            GENERATE_CONTENT,
            lambda line: line["response"],
        ),
    ],
    ids=["responses", "embeddings", "messages", "generate_content"],
)
async def test_other_operations(
    api: httpx.AsyncClient,
    provider: Recorder,
    line: dict[str, Any],
    query: dict[str, str],
    job_format: str,
    path: str,
    answer: str,
    body: Callable[[dict[str, Any]], Any],
) -> None:
    vendor = job_format.partition("-")[0]
    job, text = await results(api, json.dumps(line), results=vendor, **query)

    assert job["format"] == job_format
    assert provider.paths == [path]
    assert body(dict(exact(text))) == exact(answer)


async def test_the_body_of_a_request_to_anthropic(
    api: httpx.AsyncClient, provider: Recorder
) -> None:
    params = '{"model": "M", "max_tokens": 1.0, "messages": [],\n "x": 12345678901234567890123}'
    text = (
        f'{{"requests": [ {{"custom_id": "a", "params":\n{params}}} ,'
        f' {{"custom_id": "b", "params": {params}}}]}}'
    )

    answer = await api.post("/jobs", content=text, headers=JSON, params={"provider": "claude"})

    assert answer.json()["format"] == "anthropic-batch"
    path = f"/jobs/{answer.json()['job_id']}/results"
    lines = (await api.get(path, params={"format": "anthropic"})).text.splitlines()
    assert [json.loads(line)["custom_id"] for line in lines] == ["a", "b"]
    assert [exact(body) for body in provider.bodies] == [exact(params)] * 2


async def test_a_repeated_submission_may_be_written_differently(api: httpx.AsyncClient) -> None:
    """The client derives the same key from both texts."""
    first = '{"custom_id":"a","metadata":{"a":1,"b":2},"body":{"model":"m","input":"é","seed":1}}'
    again = (
        '{ "metadata": {"b": 2, "a": 1}, "custom_id": "a",\n'
        '"body": {"seed": 1, "input": "\\u00e9", "model": "m"}}'
    )
    key = {"Idempotency-Key": "k", **NDJSON}

    answers = [
        await api.post("/jobs", content=text, headers=key)
        for text in (first, again, first.replace('"seed":1', '"seed":2'))
    ]

    assert [answer.status_code for answer in answers] == [202, 202, 422]
    assert answers[0].json()["job_id"] == answers[1].json()["job_id"]


async def test_a_repeated_text_that_is_not_strict_json(api: httpx.AsyncClient) -> None:
    texts = ['{"model":"m","input":"\\ud800"}', '{"model":"m","input":"\\ud801"}']
    key = {"Idempotency-Key": "k", **NDJSON}

    answers = [await api.post("/jobs", content=t, headers=key) for t in (texts[0], *texts)]

    assert [answer.status_code for answer in answers] == [202, 202, 422]


async def test_results_without_answers(api: httpx.AsyncClient) -> None:
    """The line has no chat completion that the provider did not send."""
    answer = await api.post("/jobs", content='{"model": "embed-1", "input": "x"}', headers=NDJSON)
    path = f"/jobs/{answer.json()['job_id']}/results"

    line = (await api.get(path, params={"format": "openai", "content": "false"})).json()

    assert line["response"]["status_code"] == 200
    assert line["response"]["body"] is None


# File → reason why it is refused.
REFUSED = {
    "22": "custom_id must differ",  # two requests have the same custom_id
    "48": "embedContent is not supported",
}
VENDORS = {
    "41": "anthropic",
    "42": "anthropic",
    "43": "anthropic",
    "44": "gemini",
    "45": "gemini",
    "46": "gemini",
}
QUERIES = {"anthropic": {"provider": "claude"}, "gemini": {"provider": "gem", "model": "g-1"}}


@pytest.mark.parametrize(
    ("number", "text"), [(path.name[:2], path.read_text()) for path in MORE], ids=lambda x: x[:2]
)
async def test_what_people_send(
    api: httpx.AsyncClient, provider: Recorder, number: str, text: str
) -> None:
    vendor = VENDORS.get(number, "openai")
    query = QUERIES["gemini"] if number == "47" else QUERIES.get(vendor, {})
    if number in REFUSED:
        query = {"provider": "gem"} if number == "48" else {}
        answer = await api.post("/jobs", content=text.encode(), headers=NDJSON, params=query)
        assert answer.status_code == 422
        assert REFUSED[number] in answer.text
        return

    _, lines = await results(api, text, results=vendor, **query)

    written = [_body(dict(line)) for line in documents(text)]
    assert [without(exact(body), "model") for body in provider.bodies] == [
        without(body, "model", "stream") for body in written
    ]
    models = [dict(body).get("model") for body in written]
    if vendor != "gemini":
        assert [dict(exact(body)).get("model") for body in provider.bodies] == models
    assert len(lines.splitlines()) == len(written)
    assert '"error":{' not in lines


def _body(line: dict[str, Any]) -> Any:
    """Returns the part of a line that is for the provider."""
    for name in ("body", "params", "request"):
        if isinstance(line.get(name), tuple):
            return line[name]
    return without(tuple(line.items()), "metadata", "custom_id")
