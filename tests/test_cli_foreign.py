"""Tests requests in other APIs' forms from the command line, and the results of these requests."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Orchestrator
from support.jobs import parsed
from support.recorder import CHAT, GENERATE_CONTENT, MESSAGES, Recorder, recorder
from support.stack import Start

PROVIDERS = """
[providers.recorder]
base_url = "{url}/v1"

[providers.claude]
base_url = "{url}"
dialect = "anthropic"

[providers.gem]
base_url = "{url}/v1beta"
dialect = "gemini"
"""
HELLO = [{"role": "user", "content": "héllo"}]
OPENAI = {"model": "Some/Model-1", "messages": HELLO, "seed": 12345678901234567, "top_p": 1.0}
CLAUDE = {"model": "c-1", "max_tokens": 10, "messages": HELLO}
GEMINI = {"contents": [{"parts": [{"text": "hello"}]}]}


def envelope(custom_id: str, body: object, url: str = "/v1/chat/completions") -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def ndjson(*lines: object) -> str:
    return "".join(f"{json.dumps(line)}\n" for line in lines)


@pytest.fixture
async def provider() -> AsyncIterator[Recorder]:
    async with recorder() as running:
        yield running


@pytest.fixture
async def orchestrator(
    stack: Start, provider: Recorder, tmp_path: Path
) -> AsyncIterator[Orchestrator]:
    file = tmp_path / "providers.toml"
    file.write_text(PROVIDERS.format(url=provider.url))
    deployment = await stack(workers=1, PROVIDERS_FILE=str(file))
    orchestrator = Orchestrator(deployment, tmp_path)
    yield orchestrator
    await orchestrator.stop()


async def test_an_openai_batch_file_becomes_openais_output_file(
    orchestrator: Orchestrator, provider: Recorder
) -> None:
    (orchestrator.directory / "batch.jsonl").write_text(
        ndjson(envelope("a", OPENAI), envelope("b", OPENAI))
    )

    code, _, errors = await orchestrator(
        *("submit", "batch.jsonl", "--provider", "recorder", "-o", "output.jsonl")
    )

    assert code == 0, errors
    assert [json.loads(body) for body in provider.bodies] == [OPENAI, OPENAI]
    lines = parsed((orchestrator.directory / "output.jsonl").read_text())
    assert [line["custom_id"] for line in lines] == ["a", "b"]
    assert [line["response"]["status_code"] for line in lines] == [200, 200]
    assert [line["response"]["body"] for line in lines] == [json.loads(CHAT)] * 2


async def test_results_are_in_the_format_of_the_requests_unless_told_otherwise(
    orchestrator: Orchestrator,
) -> None:
    text = ndjson(envelope("a", OPENAI))
    argv = ("submit", "-", "--provider", "recorder")
    _, native, _ = await orchestrator(
        *argv, "--output-format", "native", "-o", "-", stdin=text.encode()
    )
    _, summary, _ = await orchestrator(*argv, "--json", stdin=text.encode())
    job = json.loads(summary)

    _, by_default, _ = await orchestrator("results", job["job_id"])
    _, chosen, _ = await orchestrator("results", job["job_id"], "--output-format", "native")
    code, _, errors = await orchestrator("results", job["job_id"], "--output-format", "gemini")

    assert job["format"] == "openai-batch"
    assert native == chosen
    [item] = parsed(native)
    assert (item["request_id"], item["content"]) == ("a", "hé /")
    assert item["body"] == json.loads(CHAT)
    [line] = parsed(by_default)
    assert line["response"]["body"] == item["body"]
    assert code == 1
    assert "the job's requests have the format openai-batch" in errors


FORMS = [
    ("openai", ndjson(OPENAI), "recorder", CHAT, ("response", "body")),
    ("openai", json.dumps(OPENAI, indent=2), "recorder", CHAT, ("response", "body")),
    (
        "anthropic-batch",
        ndjson({"custom_id": "a", "params": CLAUDE}),
        "claude",
        MESSAGES,
        ("result", "message"),
    ),
    ("anthropic", ndjson(CLAUDE), "claude", MESSAGES, ("result", "message")),
    (
        "gemini-batch",
        ndjson({"key": "a", "request": GEMINI}),
        "gem",
        GENERATE_CONTENT,
        ("response",),
    ),
    ("gemini", ndjson(GEMINI), "gem", GENERATE_CONTENT, ("response",)),
]


async def test_each_form_comes_back_in_its_vendors_format(orchestrator: Orchestrator) -> None:
    for form, text, name, answer, path in FORMS:
        argv = ("submit", "-", "--provider", name, "--model", "m", "-o", "-", "--json")
        code, output, errors = await orchestrator(*argv, stdin=text.encode())

        assert code == 0, (form, errors)
        line, job = parsed(output)
        for member in path:
            line = line[member]
        assert line == json.loads(answer), form
        assert job["format"] == form


async def test_pretty_printed_objects_one_after_another_are_taken(
    orchestrator: Orchestrator, provider: Recorder
) -> None:
    text = "\n".join(json.dumps(envelope(name, OPENAI), indent=2) for name in ("a", "b"))

    code, output, errors = await orchestrator(
        *("submit", "-", "--provider", "recorder", "-o", "-"), stdin=text.encode()
    )

    assert code == 0, errors
    assert [line["custom_id"] for line in parsed(output)] == ["a", "b"]
    assert len(provider.bodies) == 2


async def test_another_model_is_another_job_and_the_same_one_is_the_same_job(
    orchestrator: Orchestrator,
) -> None:
    async def submit(*argv: str) -> str:
        _, output, _ = await orchestrator(
            *("submit", "-", "--provider", "recorder", "--json", *argv),
            stdin=ndjson(OPENAI).encode(),
        )
        job_id: str = json.loads(output)["job_id"]
        return job_id

    first, again = await submit("--model", "x"), await submit("--model", "x")
    other, named = await submit("--model", "y"), await submit("--model", "x", "--format", "openai")

    assert first == again
    assert len({first, other, named}) == 3


async def test_a_request_that_cannot_be_run_is_named_with_its_line(
    orchestrator: Orchestrator, provider: Recorder
) -> None:
    (orchestrator.directory / "in").write_text(ndjson(OPENAI, envelope("b", OPENAI)))

    for argv, said in (
        (("--provider", "recorder"), "line 2"),
        (("--provider", "recoder"), "recorder"),
        (("--provider", "recorder", "--format", "gemini-batch"), "line 1"),
    ):
        code, output, errors = await orchestrator("submit", "in", *argv)

        assert (code, output) == (1, ""), (argv, errors)
        assert said in errors, (argv, errors)
    assert provider.bodies == []
