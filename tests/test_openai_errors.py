"""Tests the form of refusals under `/v1`: OpenAI's clients read status, code and headers."""

import json
from typing import Any

import pytest
from support.authentication import API_KEYS
from support.in_process import running_api

from api.errors.openai_errors import OpenAIError, error_response, validation_refusal
from shared.settings import Settings

RETRY = ("retry-after-ms", "x-should-retry")


def envelope(message: str, kind: str, code: str | None = None, param: str | None = None) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1", "/v1/nothing/"])
async def test_unknown_paths(settings: Settings, path: str) -> None:
    async with running_api(settings) as api:
        answer = await api.post(path, headers={"x-request-id": "mine"})

    assert answer.status_code == 404
    error = answer.json()["error"]
    assert path.rstrip("/") in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": None, "code": None}
    assert answer.headers["x-request-id"] == "mine"


async def test_other_surfaces_keep_their_form(settings: Settings) -> None:
    async with running_api(settings) as api:
        answers = [await api.get(path) for path in ("/nothing", "/v1x", "/jobs/x")]

    assert [set(answer.json()) for answer in answers] == [{"detail"}] * 3


async def test_requests_without_a_key(settings: Settings) -> None:
    keys = Settings(_env_file=None, api_keys=API_KEYS).api_keys
    async with running_api(settings.model_copy(update={"api_keys": keys})) as api:
        answer = await api.get("/v1/files")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() == envelope(
        "a valid API key is required, as Authorization: Bearer YOUR_KEY",
        "invalid_request_error",
        "invalid_api_key",
    )


def test_fields_that_are_invalid() -> None:
    details: list[dict[str, Any]] = [
        {"loc": ("body", "metadata", "a"), "msg": "Value error, must be a string"},
        {"loc": ("body", "messages", 0, "content"), "msg": "too long"},
        *[{"loc": ("query", "limit"), "msg": "too large"}] * 5,
    ]

    error = validation_refusal(details)

    assert (error.status_code, error.param) == (400, "metadata.a")
    assert error.message == (
        "metadata.a: must be a string; messages[0].content: too long; limit: too large;"
        " limit: too large; limit: too large; and 2 more errors"
    )


@pytest.mark.parametrize(
    ("error", "kind", "code", "retry"),
    [
        (OpenAIError(400, "m"), "invalid_request_error", None, (None, None)),
        (OpenAIError(404, "m", "x"), "invalid_request_error", "x", (None, None)),
        (OpenAIError(409, "m"), "invalid_request_error", None, (None, "false")),
        (OpenAIError(408, "m"), "invalid_request_error", None, (None, "true")),
        (
            OpenAIError(429, "m", headers={"Retry-After": "200"}),
            "requests",
            "rate_limit_exceeded",
            ("200000", "true"),
        ),
        (
            OpenAIError(429, "m", "insufficient_quota", retry=False),
            "requests",
            "insufficient_quota",
            (None, "false"),
        ),
        (OpenAIError(500, "m"), "server_error", None, (None, "true")),
        (
            OpenAIError(503, "m", headers={"Retry-After": "2"}),
            "server_error",
            "server_is_overloaded",
            ("2000", "true"),
        ),
    ],
)
def test_types_codes_and_retries(
    error: OpenAIError, kind: str, code: str | None, retry: tuple[str | None, str | None]
) -> None:
    response = error_response(error)

    assert json.loads(bytes(response.body)) == envelope("m", kind, code)
    assert tuple(response.headers.get(name) for name in RETRY) == retry
