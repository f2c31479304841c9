"""Tests what error responses of vendors mean.

The bodies are those that the vendors document, or that users report.
"""

from typing import Any

import httpx
import pytest
from support.error_responses import RESPONSES
from support.error_responses.bodies import anthropic, google, openai
from support.error_responses.judgements import NOW

from shared.dialects.refusal_reason import reason
from shared.models import ErrorCode
from shared.queue.verdict import Verdict
from worker.providers.errors import ProviderError
from worker.providers.verdicts import Judgement, judge

NO_MODEL, NO_KEY = ErrorCode.MODEL_NOT_FOUND, ErrorCode.UNAUTHORIZED
INVALID = ErrorCode.INVALID_REQUEST
FILTERED, TOO_LONG = ErrorCode.CONTENT_FILTERED, ErrorCode.CONTEXT_TOO_LONG


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        # A model that the provider does not have
        (
            404,
            openai("The model `x` does not exist or you do not have access.", "model_not_found"),
            NO_MODEL,
            "The model `x` does not exist or you do not have access.",
        ),
        (
            403,
            openai("Project `p` does not have access to model `x`", "model_not_found"),
            NO_MODEL,
            "Project `p` does not have access to model `x`",
        ),
        (
            404,
            {"error": {"code": "DeploymentNotFound", "message": "The API deployment is unknown."}},
            NO_MODEL,
            "The API deployment is unknown.",
        ),
        (404, anthropic("not_found_error", "model: claude-x"), NO_MODEL, "model: claude-x"),
        (
            404,
            google(404, "NOT_FOUND", "models/x is not found for API version v1beta"),
            NO_MODEL,
            "models/x is not found for API version v1beta",
        ),
        (
            404,
            [google(404, "NOT_FOUND", "models/x is not found for API version v1main")],
            NO_MODEL,
            "models/x is not found for API version v1main",
        ),
        (
            400,
            {"object": "error", "message": "Invalid model: x", "code": "1500"},
            NO_MODEL,
            "Invalid model: x",
        ),
        (400, openai("Model Not Exist", "invalid_request_error"), NO_MODEL, "Model Not Exist"),
        (400, openai("Invalid model 'x'.", None, "invalid_model"), NO_MODEL, "Invalid model 'x'."),
        (
            400,
            {"error": {"message": "x is not a valid model ID", "code": 400}, "user_id": "u"},
            NO_MODEL,
            "x is not a valid model ID",
        ),
        (
            404,
            {"error": {"message": "No endpoints found for x.", "code": 404}},
            NO_MODEL,
            "No endpoints found for x.",
        ),
        (
            404,
            {"object": "error", "message": "The model `x` does not exist.", "code": 404},
            NO_MODEL,
            "The model `x` does not exist.",
        ),
        (404, {"error": 'model "x" not found'}, NO_MODEL, 'model "x" not found'),
        # A path that the provider does not have
        (404, {"detail": "Not Found"}, INVALID, "Not Found"),
        (404, openai("Invalid URL (POST /v1/chat)"), INVALID, "Invalid URL (POST /v1/chat)"),
        (
            404,
            openai("Unknown request URL: POST /v1/models/x."),
            INVALID,
            "Unknown request URL: POST /v1/models/x.",
        ),
        (404, anthropic("not_found_error", "Not found"), INVALID, "Not found"),
        (404, "404 page not found", INVALID, "404 page not found"),
        (404, None, INVALID, ""),
        # The key
        (
            401,
            openai("Incorrect API key provided.", "invalid_api_key"),
            NO_KEY,
            "Incorrect API key provided.",
        ),
        (401, anthropic("authentication_error", "invalid x-api-key"), NO_KEY, "invalid x-api-key"),
        (401, {"error": "Invalid username or password."}, NO_KEY, "Invalid username or password."),
        (
            400,
            google(
                400,
                "INVALID_ARGUMENT",
                "Please pass a valid key.",
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
            ),
            NO_KEY,
            "Please pass a valid key.",
        ),
        (
            400,
            {"code": "Client specified an invalid argument", "error": "Incorrect API key: x"},
            NO_KEY,
            "Incorrect API key: x",
        ),
        (403, anthropic("permission_error", "may not use it"), NO_KEY, "may not use it"),
        # Moderation
        (
            403,
            {"error": {"code": 403, "message": "input was flagged", "metadata": {"reasons": []}}},
            FILTERED,
            "input was flagged",
        ),
        (403, openai("refused", "content_policy_violation"), FILTERED, "refused"),
        # The request
        (
            422,
            {"detail": [{"loc": ["body", "top_p"], "msg": "must be at most 1", "input": "secret"}]},
            INVALID,
            "body.top_p: must be at most 1",
        ),
        (
            400,
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 400,
                    "metadata": {
                        "raw": '{"error":{"message":"max_tokens is too large"}}',
                        "provider_name": "X",
                    },
                }
            },
            INVALID,
            "Provider returned error: max_tokens is too large",
        ),
        (
            400,
            openai("This model's maximum context length is 8192.", "context_length_exceeded"),
            TOO_LONG,
            "This model's maximum context length is 8192.",
        ),
        (402, openai("Insufficient Balance"), ErrorCode.PAYMENT_REQUIRED, "Insufficient Balance"),
        (413, anthropic("request_too_large", "too large"), TOO_LONG, "too large"),
    ],
)
def test_a_refusal_is_final(status: int, body: object, code: ErrorCode, text: str) -> None:
    found = judged(status, body)

    verdicts = {
        NO_MODEL: Verdict.MODEL_NOT_FOUND,
        NO_KEY: Verdict.UNAUTHORIZED,
        INVALID: Verdict.REJECTED,
        FILTERED: Verdict.CONTENT_FILTERED,
        TOO_LONG: Verdict.CONTEXT_TOO_LONG,
        ErrorCode.PAYMENT_REQUIRED: Verdict.QUOTA_EXHAUSTED,
    }
    assert (found.verdict, found.code, reason(body)) == (verdicts[code], code, text)


def judged(status: int, body: object, **headers: str) -> Judgement:
    return judge(status, httpx.Headers(headers), body, safe_text=reason(body), now=NOW)


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        pytest.param(*response, id=f"{vendor}-{number}")
        for vendor, responses in RESPONSES.items()
        for number, response in enumerate(responses)
    ],
)
def test_a_vendors_response(
    status: int, headers: dict[str, str], body: Any, expected: Judgement
) -> None:
    assert judged(status, body, **headers) == expected


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_prompt_in_the_response_stops_no_deployment(status: int) -> None:
    body = {"error": "cannot take 'invalid api key, credit balance, spending limit'"}

    found = judge(status, httpx.Headers(), body, safe_text="cannot take …", now=NOW)

    assert found.verdict is (Verdict.UNAUTHORIZED if status == 403 else Verdict.REJECTED)
    assert not found.covers_account


@pytest.mark.parametrize("status", [500, 503])
def test_a_prompt_in_an_error_of_the_server_is_no_overload(status: int) -> None:
    body = {"error": "cannot take 'a busy line, overloaded by high demand'"}

    found = judge(status, httpx.Headers(), body, safe_text="cannot take …", now=NOW)

    assert found.verdict is Verdict.TRANSIENT


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ProviderError(
                Verdict.RATE_LIMITED, ErrorCode.RATE_LIMITED, "secret", status_code=429, wait_s=7.5
            ),
            "answered 429 (too many requests) and asked to wait 7.5 s",
        ),
        (
            ProviderError(
                Verdict.OVERLOADED, ErrorCode.OVERLOADED, "secret", status_code=503, wait_s=None
            ),
            "answered 503 (no capacity)",
        ),
        (
            ProviderError(Verdict.UNREACHABLE, ErrorCode.CONNECTION_ERROR, "secret"),
            "could not be reached",
        ),
        (
            ProviderError(Verdict.TRANSIENT, ErrorCode.CONNECTION_ERROR, "secret"),
            "closed the connection",
        ),
        (
            ProviderError(Verdict.TRANSIENT, ErrorCode.TIMEOUT, "secret"),
            "did not answer in time",
        ),
        (
            ProviderError(Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR, "secret", status_code=500),
            "answered 500 (an error of the provider)",
        ),
    ],
)
def test_the_reason_for_a_pause_has_no_text_of_the_provider(
    error: ProviderError, reason: str
) -> None:
    assert error.reason == reason
