"""Tests that odd answers of providers are read as answers, and refusals by their reasons.

Each file in `answers` is a whole HTTP response, which a server sends byte for byte.
"""

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from support.providers import endpoint_of
from support.raw_server import http, raw

from shared.dialects.dialect import Answer
from shared.models import ErrorCode
from shared.providers import PROVIDERS
from shared.queue.item_request import ItemRequest
from shared.queue.verdict import Verdict
from shared.settings import ProviderSettings
from worker.providers.client import call
from worker.providers.errors import ProviderError

ANSWERS = Path(__file__).parent / "answers"
NATIVE: ItemRequest = {
    "provider": "openrouter",
    "model": "m",
    "chat": {
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.7,
        "max_tokens": 100,
    },
}
FOREIGN: ItemRequest = {
    "provider": "openrouter",
    "model": "m",
    "operation": "chat",
    "body": ['{"messages":[{"role":"user","content":"hello"}],"model":', "}"],
}
HI = Answer("hi", 3, 5, 8, "stop")


async def outcome(
    client: httpx.AsyncBaseTransport, answer: bytes, request: ItemRequest, provider: str
) -> tuple[Answer | ProviderError, int]:
    """Returns the outcome of a call, and the number of calls that the server received."""
    async with raw(answer) as server:
        settings = ProviderSettings(api_key="secret-key", base_url=server.url)
        there = endpoint_of(PROVIDERS[provider], settings)
        try:
            found: Answer | ProviderError = await call(client, there, request, timeout_s=5)
        except ProviderError as error:
            found = error
    return found, len(server.requests)


def recorded(name: str) -> tuple[bytes, str]:
    """Returns a recorded response, and the provider that sends such responses."""
    provider = "ollama" if name.startswith("ollama") else "openrouter"
    return (ANSWERS / f"{name}.http").read_bytes(), provider


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("content-parts", replace(HI, content="two parts")),
        ("content-thinking-parts", replace(HI, content="four")),
        ("surrogate", replace(HI, content="cut here \ufffd", finish_reason="length")),
        ("ollama-surrogate", replace(HI, content="cut here \ufffd", finish_reason="length")),
        ("usage-list", Answer("hi", finish_reason="stop")),
        ("usage-string", Answer("hi", finish_reason="stop")),
        ("finish-object", HI),
        ("error-empty-string", HI),
        ("error-empty-object", HI),
        ("error-false", HI),
        ("bom", HI),
        ("second-choice", Answer("hi", finish_reason="stop")),
        ("refusal", replace(HI, content="")),
        ("ollama-thinking-only", replace(HI, content="", finish_reason="length")),
    ],
)
async def test_an_odd_answer_is_the_answer(
    client: httpx.AsyncBaseTransport, name: str, expected: Answer
) -> None:
    answer, provider = recorded(name)

    found, _ = await outcome(client, answer, NATIVE, provider)

    assert isinstance(found, Answer)
    assert replace(found, message=None, choices=None, usage=None) == expected


@pytest.mark.parametrize(
    ("name", "field", "text"),
    [
        ("refusal", "refusal", "not this one"),
        ("ollama-thinking-only", "reasoning", "step one, step two"),
    ],
)
async def test_an_answer_without_text_says_why(
    client: httpx.AsyncBaseTransport, name: str, field: str, text: str
) -> None:
    answer, provider = recorded(name)

    found, _ = await outcome(client, answer, NATIVE, provider)

    assert isinstance(found, Answer)
    assert found.message is not None
    assert found.message[field] == text


@pytest.mark.parametrize(
    ("name", "evidence"),
    [
        ("finish-error", "finish_reason: error"),
        ("ollama-load", "done_reason: load"),
        ("ollama-unload", "done_reason: unload"),
    ],
)
async def test_an_unfinished_answer_is_a_failed_attempt(
    client: httpx.AsyncBaseTransport, name: str, evidence: str
) -> None:
    answer, provider = recorded(name)

    found, _ = await outcome(client, answer, NATIVE, provider)

    assert isinstance(found, ProviderError)
    assert (found.verdict, found.code, found.message) == (
        Verdict.UNFINISHED,
        ErrorCode.PROVIDER_ERROR,
        f"{provider} did not finish its answer ({evidence})",
    )


@pytest.mark.parametrize(
    ("name", "verdict", "code", "message"),
    [
        ("error-string", Verdict.REJECTED, ErrorCode.INVALID_REQUEST, "400: the limit is 512"),
        ("error-top-message", Verdict.REJECTED, ErrorCode.INVALID_REQUEST, "400: the limit is 512"),
        (
            "error-raw",
            Verdict.REJECTED,
            ErrorCode.INVALID_REQUEST,
            "400: upstream failed: the limit is 512",
        ),
        (
            "ollama-error-object",
            Verdict.MODEL_NOT_FOUND,
            ErrorCode.MODEL_NOT_FOUND,
            "404: no model m",
        ),
        (
            "403-moderation",
            Verdict.CONTENT_FILTERED,
            ErrorCode.CONTENT_FILTERED,
            "403: input was flagged",
        ),
        ("ollama-404-no-route", Verdict.REJECTED, ErrorCode.INVALID_REQUEST, "404: no such page"),
        ("524", Verdict.TRANSIENT, ErrorCode.TIMEOUT, "524"),
    ],
)
async def test_a_refusal_has_its_reason(
    client: httpx.AsyncBaseTransport,
    name: str,
    verdict: Verdict,
    code: ErrorCode,
    message: str,
) -> None:
    answer, provider = recorded(name)

    found, _ = await outcome(client, answer, NATIVE, provider)

    assert isinstance(found, ProviderError)
    assert (found.verdict, found.code, found.message) == (
        verdict,
        code,
        f"{provider} answered {message}",
    )


COMPLETION = (
    b'{"id":"x","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"hi"}}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}'
)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (COMPLETION, COMPLETION),
        (b"\n\n \n" + COMPLETION + b"\n", b"   " + b" " + COMPLETION + b" "),
        (b"\xef\xbb\xbf" + COMPLETION, COMPLETION),
        (b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n" + COMPLETION, COMPLETION),
        (b"// a comment\r\n# another\n" + COMPLETION, COMPLETION),
        (
            COMPLETION.replace(b'"id":"x"', b'"id": "\xff \x01 \\ud83d \\\\ud83d"'),
            COMPLETION.replace(b'"id":"x"', '"id": "\ufffd \\u0001 \\ufffd \\\\ud83d"'.encode()),
        ),
        (
            COMPLETION.replace(b'"id":"x"', b'"a":NaN,\n"b":[Infinity,-Infinity,"NaN"]'),
            COMPLETION.replace(b'"id":"x"', b'"a":null, "b":[null,null,"NaN"]'),
        ),
        *[
            (COMPLETION.replace(b'"x"', number), COMPLETION.replace(b'"x"', number))
            for number in (b"1e999", b"1.0", b"1E+5", b"9" * 5000, b"-0", b"12345678901234567890")
        ],
        (
            COMPLETION.replace(b'"id"', b'"z":1,"a":2,"z"'),
            COMPLETION.replace(b'"id"', b'"z":1,"a":2,"z"'),
        ),
    ],
)
async def test_the_body_of_an_answer_is_kept_as_it_was_sent(
    client: httpx.AsyncBaseTransport, body: bytes, kept: bytes
) -> None:
    """Only whitespace, and what is not allowed in JSON, differ."""
    found, _ = await outcome(client, http(body), FOREIGN, "openrouter")

    assert isinstance(found, Answer)
    assert replace(found, body=None, usage=None) == HI
    assert found.body == kept.decode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b": OPENROUTER PROCESSING\n\n",
        COMPLETION[:-1],
        COMPLETION[:60],
        b"[" * 5000 + b"]" * 5000,
        b'{"choices":[{"message":{"content":"' + b'\\"' * 500_000,
        b"<html></html>",
        COMPLETION + COMPLETION,
    ],
    ids=["empty", "blank", "comment", "cut", "cut-in-a-string", "deep", "quotes", "html", "two"],
)
@pytest.mark.parametrize("request_", [NATIVE, FOREIGN], ids=["native", "foreign"])
async def test_a_body_that_is_not_complete_json_is_a_failed_attempt(
    client: httpx.AsyncBaseTransport, body: bytes, request_: ItemRequest
) -> None:
    found, _ = await outcome(client, http(body), request_, "openrouter")

    assert isinstance(found, ProviderError)
    assert (found.verdict, found.code) == (Verdict.UNFINISHED, ErrorCode.BAD_RESPONSE)


@pytest.mark.parametrize("request_", [NATIVE, FOREIGN], ids=["native", "foreign"])
async def test_json_without_an_answer_is_final(
    client: httpx.AsyncBaseTransport, request_: ItemRequest
) -> None:
    found, _ = await outcome(client, http({"object": "list", "data": []}), request_, "openrouter")

    assert isinstance(found, ProviderError)
    assert (found.verdict, found.code) == (Verdict.REJECTED, ErrorCode.BAD_RESPONSE)
