"""Tests that the text of an error has neither a key nor a prompt, and is short."""

import httpx
import orjson
import pytest
from support.provider_calls import KEY, both_providers, chat, facts, failure, with_key
from support.raw_server import http, raw

from shared.models import ErrorCode
from shared.queue.verdict import Verdict
from worker.providers.errors import ProviderError

PROMPT = "The patient's name is Ada Lovelace, born in 1815; her 'notes' say:\n\"ünwell\" — advise."


async def test_error_without_json_has_no_text(client: httpx.AsyncBaseTransport) -> None:
    async with raw(http(b"<h1>Bad gateway</h1>", status="502 Bad Gateway")) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    assert facts(error) == facts(
        ProviderError(
            Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR, "openrouter answered 502", status_code=502
        )
    )


async def test_error_text_is_cut(client: httpx.AsyncBaseTransport) -> None:
    answer = http({"error": {"message": "no" * 50_000}}, status="400 Bad Request")
    async with raw(answer) as server:
        error = await failure(client, with_key("openrouter", server.url), chat())
    assert error.message == f"openrouter answered 400: {'no' * 150}…"


@both_providers
async def test_key_is_not_in_the_error(client: httpx.AsyncBaseTransport, provider: str) -> None:
    text = f"key {KEY} and header 'Bearer {KEY}'"
    body = {"error": text if provider == "ollama" else {"code": 401, "message": text}}
    async with raw(http(body, status="401 Unauthorized")) as server:
        error = await failure(client, with_key(provider, server.url), chat())
    assert error.message == f"{provider} answered 401: key … and header 'Bearer …'"


@both_providers
async def test_prompt_is_not_in_the_error(client: httpx.AsyncBaseTransport, provider: str) -> None:
    text = f"cannot take: {PROMPT} (twice: {PROMPT})"
    body = {"error": text if provider == "ollama" else {"code": 400, "message": text}}
    async with raw(http(body, status="400 Bad Request")) as server:
        error = await failure(client, with_key(provider, server.url), chat("be brief", PROMPT))
    assert error.message == f"{provider} answered 400: cannot take: … (twice: …)"


async def test_prompt_is_not_in_the_error_of_an_error_object(
    client: httpx.AsyncBaseTransport,
) -> None:
    async with raw(http({"error": {"code": 400, "message": f"no {PROMPT} {KEY}"}})) as server:
        error = await failure(client, with_key("openrouter", server.url), chat(PROMPT))
    assert error.message == "openrouter answered 400: no … …"


async def test_prompt_around_another_is_not_in_the_error(client: httpx.AsyncBaseTransport) -> None:
    async with raw(http({"error": {"code": 400, "message": f"no: {PROMPT}"}})) as server:
        error = await failure(
            client, with_key("openrouter", server.url), chat("The patient's name is", PROMPT)
        )
    assert "Lovelace" not in error.message


@pytest.mark.parametrize(
    "echo",
    [PROMPT[:40], orjson.dumps(PROMPT).decode(), " ".join(PROMPT.split())],
    ids=["beginning", "json", "one-line"],
)
async def test_altered_prompt_is_not_in_the_error(
    client: httpx.AsyncBaseTransport, echo: str
) -> None:
    async with raw(http({"error": {"code": 400, "message": f"no: {echo}"}})) as server:
        error = await failure(client, with_key("openrouter", server.url), chat(PROMPT))
    assert "Lovelace" not in error.message
