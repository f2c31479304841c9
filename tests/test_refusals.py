"""Tests what error responses of vendors mean. The bodies are those that the vendors document."""

from typing import Any

import pytest

from shared.dialects.reason import codes, reason
from shared.models import ErrorCode
from worker.providers.errors import ProviderError, Verdict
from worker.providers.refusals import refusal

NO_MODEL, NO_KEY = ErrorCode.MODEL_NOT_FOUND, ErrorCode.UNAUTHORIZED
INVALID = ErrorCode.INVALID_REQUEST


def openai(message: str, code: str | None = None, type_: str = "invalid_request_error") -> Any:
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


def anthropic(type_: str, message: str) -> Any:
    return {"type": "error", "error": {"type": type_, "message": message}, "request_id": "req_1"}


def google(code: int, status: str, message: str, *details: Any) -> Any:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


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
            INVALID,
            "input was flagged",
        ),
        (403, openai("refused", "content_policy_violation"), INVALID, "refused"),
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
            INVALID,
            "This model's maximum context length is 8192.",
        ),
        (402, openai("Insufficient Balance"), ErrorCode.PAYMENT_REQUIRED, "Insufficient Balance"),
        (413, anthropic("request_too_large", "too large"), INVALID, "too large"),
    ],
)
def test_a_refusal_is_final(status: int, body: object, code: ErrorCode, text: str) -> None:
    error = verdict(status, body)

    verdicts = {
        NO_MODEL: Verdict.MODEL_NOT_FOUND,
        NO_KEY: Verdict.UNAUTHORIZED,
        ErrorCode.PAYMENT_REQUIRED: Verdict.QUOTA_EXHAUSTED,
    }
    found = (error.verdict, error.code, reason(body))
    assert found == (verdicts.get(code, Verdict.REJECTED), code, text)


def verdict(status: int, body: object, **headers: str) -> ProviderError:
    text = reason(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return refusal("p", status, text, codes(body), names, shown=text)


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected", "code"),
    [
        (429, openai("Rate limit reached", "rate_limit_exceeded"), {}, Verdict.RATE_LIMITED, None),
        (429, google(429, "RESOURCE_EXHAUSTED", "Quota exceeded"), {}, Verdict.RATE_LIMITED, None),
        (
            529,
            anthropic("overloaded_error", "Overloaded"),
            {"retry_after": "3"},
            Verdict.OVERLOADED,
            None,
        ),
        (
            529,
            anthropic("overloaded_error", "Overloaded"),
            {},
            Verdict.TRANSIENT,
            ErrorCode.PROVIDER_ERROR,
        ),
        (500, openai("The server had an error"), {}, Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR),
        (500, {"error": "model 'x' not found"}, {}, Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR),
        (503, {"error": "model is loading"}, {}, Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR),
        *[
            (status, None, {}, Verdict.TRANSIENT, ErrorCode.TIMEOUT)
            for status in (408, 504, 522, 524)
        ],
    ],
)
def test_a_refusal_is_retried(
    status: int,
    body: object,
    headers: dict[str, str],
    expected: Verdict,
    code: ErrorCode | None,
) -> None:
    error = verdict(status, body, **headers)

    assert error.verdict is expected
    assert error.code == (code or ErrorCode.RATE_LIMITED)
