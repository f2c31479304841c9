"""Tests what error responses of vendors mean.

The bodies are those that the vendors document, or that users report.
"""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from shared.dialects.reason import reason
from shared.models import ErrorCode
from worker.providers.errors import ProviderError, Verdict
from worker.providers.verdicts import Judgement, judge

NOW = datetime(2026, 11, 6, 8, 0, tzinfo=UTC)
EPOCH = 1_793_952_000  # NOW as seconds since 1970

NO_MODEL, NO_KEY = ErrorCode.MODEL_NOT_FOUND, ErrorCode.UNAUTHORIZED
INVALID = ErrorCode.INVALID_REQUEST
FILTERED, TOO_LONG = ErrorCode.CONTENT_FILTERED, ErrorCode.CONTEXT_TOO_LONG


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


def limited(wait_s: float | None = None, *, account: bool = False) -> Judgement:
    return Judgement(Verdict.RATE_LIMITED, ErrorCode.RATE_LIMITED, wait_s, covers_account=account)


def overloaded(wait_s: float | None = None) -> Judgement:
    return Judgement(Verdict.OVERLOADED, ErrorCode.OVERLOADED, wait_s)


def spent(
    wait_s: float | None = None,
    *,
    account: bool = True,
    code: ErrorCode = ErrorCode.QUOTA_EXHAUSTED,
) -> Judgement:
    return Judgement(Verdict.QUOTA_EXHAUSTED, code, wait_s, covers_account=account)


UNPAID = spent(code=ErrorCode.PAYMENT_REQUIRED)
REFUSED_KEY = Judgement(Verdict.UNAUTHORIZED, NO_KEY, covers_account=True)
TOO_LONG_REQUEST = Judgement(Verdict.CONTEXT_TOO_LONG, TOO_LONG)
FILTERED_REQUEST = Judgement(Verdict.CONTENT_FILTERED, FILTERED)
TRANSIENT = Judgement(Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR)
TIMEOUT = Judgement(Verdict.TRANSIENT, ErrorCode.TIMEOUT)
REJECTED = Judgement(Verdict.REJECTED, INVALID)

GEMINI_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more"
    " information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)


def quota_failure(*quotas: str) -> Any:
    violations = [{"quotaMetric": "requests", "quotaId": quota} for quota in quotas]
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}


def retry_info(delay: str) -> Any:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def openrouter(code: int, message: str, **metadata: Any) -> Any:
    return {"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "u"}


def openai_quota(code: str) -> Any:
    return openai("You exceeded your current quota.", code, "insufficient_quota")


PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"

# What a vendor sends, by vendor: status, headers, body, and what it means.
RESPONSES: dict[str, list[tuple[int, dict[str, str], Any, Judgement]]] = {
    "openai": [
        (
            429,
            {
                "x-ratelimit-remaining-requests": "99",
                "x-ratelimit-reset-requests": "1ms",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            openai(
                "Rate limit reached for gpt-x in organization org-1 on tokens per min (TPM):"
                " Limit 30000, Used 29000, Requested 4000.",
                "rate_limit_exceeded",
                "tokens",
            ),
            limited(360),
        ),
        (
            429,
            {},
            openai(
                "Rate limit reached for gpt-x in organization org-1 on requests per day (RPD):"
                " Limit 200, Used 200, Requested 1. Please try again in 7m12s.",
                "rate_limit_exceeded",
                "requests",
            ),
            limited(432),
        ),
        (
            429,
            {},
            openai(
                "Request too large for gpt-x in organization org-1 on tokens per min (TPM): Limit"
                " 30000, Requested 40000. The input or output tokens must be reduced in order to"
                " run successfully.",
                "rate_limit_exceeded",
                "tokens",
            ),
            TOO_LONG_REQUEST,
        ),
        (429, {}, openai("Slow down", "slow_down"), limited()),
        (429, {}, openai("no capacity for flex", "resource_unavailable"), overloaded()),
        *[
            (429, {}, openai_quota(code), spent())
            for code in (
                "insufficient_quota",
                "credit_balance_exhausted",
                "organization_spend_limit_exceeded",
                "project_spend_limit_exceeded",
                "organization_usage_limit_exceeded",
            )
        ],
        (429, {}, openai("Your account is not active.", "billing_not_active"), spent()),
        (
            400,
            {},
            openai("Billing hard limit has been reached", "billing_hard_limit_reached"),
            spent(),
        ),
        (
            503,
            {},
            openai("The server is currently overloaded", "server_is_overloaded"),
            overloaded(),
        ),
        (503, {}, openai("Slow down", "slow_down"), overloaded()),
        (500, {}, openai("The server had an error", None, "server_error"), TRANSIENT),
        (401, {}, openai("Your account was deactivated", "account_deactivated"), REFUSED_KEY),
        (
            400,
            {},
            openai("max_tokens is too large: 99999. This model supports at most 16384."),
            REJECTED,
        ),
        (
            400,
            {},
            openai("Your request was rejected as a result of our safety system."),
            FILTERED_REQUEST,
        ),
    ],
    "azure": [
        (
            429,
            {"retry-after-ms": "2500", "retry-after": "3"},
            {"error": {"code": "429", "message": "Requests have exceeded the call rate limit."}},
            limited(2.5),
        ),
        (
            429,
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0"},
            {"error": {"code": "429", "message": "Please retry after 20 seconds."}},
            limited(20),
        ),
        (
            429,
            {},
            {"error": {"message": "The system is currently experiencing high demand."}},
            overloaded(),
        ),
        (
            400,
            {},
            {
                "error": {
                    "message": "The response was filtered due to the prompt triggering Azure"
                    " OpenAI's content management policy.",
                    "code": "content_filter",
                    "innererror": {"code": "ResponsibleAIPolicyViolation"},
                }
            },
            FILTERED_REQUEST,
        ),
        (
            400,
            {},
            {
                "error": {
                    "message": "refused",
                    "innererror": {"code": "ResponsibleAIPolicyViolation"},
                }
            },
            FILTERED_REQUEST,
        ),
    ],
    "anthropic": [
        (
            429,
            {
                "retry-after": "12",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-06T08:10:00Z",
            },
            anthropic(
                "rate_limit_error",
                "This request would exceed your organization's rate limit of 50,000 input tokens"
                " per minute (org: o, model: claude-x).",
            ),
            limited(12),
        ),
        (
            429,
            {
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2026-11-06T08:00:30Z",
            },
            anthropic("rate_limit_error", "This request would exceed your account's rate limit."),
            limited(30, account=True),
        ),
        (
            429,
            {},
            anthropic("rate_limit_error", "Extra usage is required for long context requests."),
            TOO_LONG_REQUEST,
        ),
        (
            429,
            {},
            {
                "type": "error",
                "error": {
                    "type": "rate_limit_error",
                    "message": "limit",
                    "details": {"error_code": "enforced_spend_limit_reached"},
                },
            },
            spent(),
        ),
        (
            429,
            {},
            anthropic(
                "rate_limit_error", "This request would exceed your account's monthly spend limit."
            ),
            spent(),
        ),
        (
            400,
            {},
            anthropic(
                "invalid_request_error",
                "You have reached your specified API usage limits. You will regain access on"
                " 2026-11-08 at 00:00 UTC.",
            ),
            spent(144_000),
        ),
        (
            400,
            {},
            anthropic("invalid_request_error", "Your credit balance is too low to use the API."),
            spent(),
        ),
        (529, {}, anthropic("overloaded_error", "Overloaded"), overloaded()),
        (529, {"retry-after": "3"}, anthropic("overloaded_error", "Overloaded"), overloaded(3)),
        (529, {}, None, overloaded()),
        (500, {}, anthropic("api_error", "Internal server error"), TRANSIENT),
        (
            400,
            {},
            anthropic(
                "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"
            ),
            TOO_LONG_REQUEST,
        ),
        (
            400,
            {},
            anthropic(
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
            ),
            TOO_LONG_REQUEST,
        ),
        (413, {}, anthropic("request_too_large", "Request exceeds the size"), TOO_LONG_REQUEST),
        (
            400,
            {},
            anthropic("invalid_request_error", "Output blocked by content filtering policy"),
            FILTERED_REQUEST,
        ),
    ],
    "gemini": [
        (
            429,
            {},
            google(
                429,
                "RESOURCE_EXHAUSTED",
                GEMINI_QUOTA,
                quota_failure(PER_MINUTE),
                {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
                retry_info("14s"),
            ),
            limited(14),
        ),
        (
            429,
            {},
            [google(429, "RESOURCE_EXHAUSTED", GEMINI_QUOTA + "\nPlease retry in 14.405s.")],
            limited(14.405),
        ),
        (429, {}, google(429, "RESOURCE_EXHAUSTED", GEMINI_QUOTA), limited()),
        (429, {}, google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted"), limited()),
        (
            429,
            {},
            google(
                429,
                "RESOURCE_EXHAUSTED",
                GEMINI_QUOTA,
                quota_failure("RequestsPerMinutePerProject"),
            ),
            limited(account=True),
        ),
        (
            429,
            {},
            google(
                429,
                "RESOURCE_EXHAUSTED",
                GEMINI_QUOTA,
                quota_failure(PER_MINUTE, PER_DAY),
                retry_info("57600s"),
            ),
            spent(57_600, account=False),
        ),
        (
            429,
            {},
            google(
                429,
                "RESOURCE_EXHAUSTED",
                GEMINI_QUOTA + " * Quota exceeded for metric: x, limit: 0",
                quota_failure(PER_MINUTE),
                retry_info("30s"),
            ),
            spent(30, account=False),
        ),
        (
            429,
            {},
            google(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its spending cap."),
            spent(),
        ),
        (503, {}, google(503, "UNAVAILABLE", "The model is overloaded."), overloaded()),
        (503, {}, google(503, "UNAVAILABLE", "The service is unavailable"), overloaded()),
        (504, {}, google(504, "DEADLINE_EXCEEDED", "Deadline expired"), TIMEOUT),
        (
            400,
            {},
            google(400, "INVALID_ARGUMENT", "x", {"reason": "API_KEY_INVALID", "domain": "d"}),
            REFUSED_KEY,
        ),
        (
            400,
            {},
            google(
                400,
                "INVALID_ARGUMENT",
                "The input token count (2000000) exceeds the maximum number of tokens allowed"
                " (1048576).",
            ),
            TOO_LONG_REQUEST,
        ),
        (400, {}, google(400, "INVALID_ARGUMENT", "Invalid value at 'safety_settings'"), REJECTED),
    ],
    "bedrock": [
        (
            429,
            {"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/"},
            {"message": "Too many tokens, please wait before trying again."},
            limited(),
        ),
        (429, {"x-amzn-errortype": "ModelNotReadyException"}, {"message": "x"}, overloaded()),
        (
            400,
            {"x-amzn-errortype": "ServiceQuotaExceededException"},
            {"message": "x"},
            spent(),
        ),
        (424, {}, {"__type": "ModelStreamErrorException", "message": "x"}, TRANSIENT),
        (403, {}, {"message": "x"}, Judgement(Verdict.UNAUTHORIZED, NO_KEY)),
        (
            400,
            {"x-amzn-errortype": "ValidationException"},
            {"message": "Input is too long for requested model."},
            TOO_LONG_REQUEST,
        ),
    ],
    "mistral": [
        (
            429,
            {},
            {
                "object": "error",
                "message": "Service tier capacity exceeded for this model.",
                "type": "service_tier_capacity_exceeded",
                "code": "3505",
            },
            limited(),
        ),
        (
            400,
            {},
            {
                "object": "error",
                "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum"
                " context length",
                "type": "invalid_request_error",
                "code": "3051",
            },
            TOO_LONG_REQUEST,
        ),
    ],
    "groq": [
        (
            429,
            {},
            openai(
                "Rate limit reached for model `m` in organization `o` service tier `on_demand` on"
                " tokens per minute (TPM): Limit 6000, Used 5000, Requested 4351. Please try again"
                " in 5.289s. Visit https://x",
                "rate_limit_exceeded",
                "tokens",
            ),
            limited(5.289),
        ),
        (
            429,
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2m59.56s"},
            openai("Rate limit reached for model `m`", "rate_limit_exceeded"),
            limited(179.56),
        ),
        (
            429,
            {"retry-after": "7200"},
            openai("Rate limit reached for model `m` on requests per day (RPD)"),
            spent(7200, account=False),
        ),
        (498, {}, openai("Flex tier is at its limit", "capacity_exceeded"), overloaded()),
        (
            413,
            {},
            openai(
                "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested"
                " 7000, please reduce your message size and try again.",
                "rate_limit_exceeded",
            ),
            TOO_LONG_REQUEST,
        ),
        (400, {}, openai("Please reduce the length of the messages."), TOO_LONG_REQUEST),
    ],
    "together": [
        (429, {"x-ratelimit-reset": "3"}, openai("Rate limited", "rate_limit"), limited(3)),
        (
            403,
            {},
            openai("`inputs` tokens + `max_new_tokens` must be less than the context length"),
            TOO_LONG_REQUEST,
        ),
        (503, {}, openai("The server is overloaded or not ready yet."), overloaded()),
        (503, {}, openai("Service unavailable", None, "service_unavailable"), TRANSIENT),
    ],
    "fireworks": [
        (
            412,
            {},
            {"error": "Account acme is suspended, possibly due to reaching the monthly limit"},
            spent(),
        ),
        (402, {}, {"error": "Payment required"}, UNPAID),
        (503, {}, {"error": {"message": "Service overloaded"}}, overloaded()),
    ],
    "deepseek": [
        (402, {}, openai("Insufficient Balance", "invalid_request_error"), UNPAID),
        (503, {}, openai("The service is overloaded due to high traffic"), overloaded()),
    ],
    "xai": [
        (429, {}, {"code": "resource-exhausted", "error": "Too many requests"}, limited()),
        (
            403,
            {},
            {
                "code": "The caller does not have permission",
                "error": "Your newly created team doesn't have any credits yet.",
            },
            spent(),
        ),
        (
            429,
            {},
            {"error": "Your team has either used all available credits or reached its limit."},
            spent(),
        ),
        (403, {}, {"error": "Content violates usage guidelines."}, FILTERED_REQUEST),
        (400, {}, {"error": "This model's maximum prompt length is 131072"}, TOO_LONG_REQUEST),
    ],
    "cerebras": [
        (
            429,
            {"x-ratelimit-remaining-tokens-minute": "0", "x-ratelimit-reset-tokens-minute": "11.3"},
            {"message": "Tokens per minute limit exceeded", "code": "token_quota_exceeded"},
            limited(11.3),
        ),
        (
            429,
            {
                "x-ratelimit-remaining-requests-day": "0",
                "x-ratelimit-reset-requests-day": "33011.38",
            },
            {"message": "Requests per day limit exceeded", "code": "request_quota_exceeded"},
            spent(33_011.38, account=False),
        ),
    ],
    "openrouter": [
        (
            429,
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str((EPOCH + 8) * 1000)},
            openrouter(429, "Rate limit exceeded: free-models-per-min."),
            limited(8),
        ),
        (
            429,
            {},
            openrouter(
                429,
                "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock more",
                headers={
                    "X-RateLimit-Limit": "50",
                    "X-RateLimit-Remaining": "0",
                    "X-RateLimit-Reset": str((EPOCH + 57_600) * 1000),
                },
            ),
            spent(57_600, account=False),
        ),
        (
            429,
            {},
            openrouter(
                429,
                "Provider returned error",
                raw='{"error":{"message":"m is temporarily rate-limited upstream."}}',
                provider_name="X",
            ),
            limited(),
        ),
        (
            402,
            {"retry-after": "30"},
            openrouter(402, "Insufficient credits"),
            spent(30, code=ErrorCode.PAYMENT_REQUIRED),
        ),
        (
            403,
            {},
            openrouter(403, "Key limit exceeded (monthly limit). Manage it on the site"),
            spent(),
        ),
        (403, {}, openrouter(403, "input was flagged", reasons=["a"]), FILTERED_REQUEST),
        (502, {}, openrouter(502, "Provider returned error"), TRANSIENT),
        (
            502,
            {},
            openrouter(502, "Provider returned error", provider_code="overloaded_error"),
            overloaded(),
        ),
        (
            400,
            {},
            openrouter(
                400,
                "Provider returned error",
                raw='{"error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}',
            ),
            TOO_LONG_REQUEST,
        ),
    ],
    "perplexity": [
        (401, {}, openai_quota("insufficient_quota"), spent()),
    ],
    "huggingface": [
        (
            402,
            {},
            {"error": "You have exceeded your monthly included credits for Inference Providers."},
            UNPAID,
        ),
        (
            503,
            {},
            {"error": "Model m is currently loading", "estimated_time": 20.0},
            overloaded(20),
        ),
        (429, {}, {"error": "Model is overloaded", "error_type": "overloaded"}, overloaded()),
        (
            422,
            {},
            {
                "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8",
                "error_type": "validation",
            },
            TOO_LONG_REQUEST,
        ),
    ],
    "local": [  # vLLM, SGLang, llama.cpp, LM Studio, Ollama
        (
            400,
            {},
            {
                "object": "error",
                "message": "This model's maximum context length is 4096 tokens. However, you"
                " requested 5000 tokens.",
                "type": "BadRequestError",
                "code": 400,
            },
            TOO_LONG_REQUEST,
        ),
        (
            415,
            {},
            {"detail": "Unsupported Media Type: Only 'application/json' is allowed"},
            TRANSIENT,
        ),
        (
            400,
            {},
            {"message": "The input (9 tokens) is longer than the model's context length (8)."},
            TOO_LONG_REQUEST,
        ),
        (503, {}, {"message": "The request queue is full."}, overloaded()),
        (
            503,
            {},
            {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
            overloaded(),
        ),
        (
            400,
            {},
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size, try increasing it",
                    "type": "exceed_context_size_error",
                    "n_ctx": 4096,
                }
            },
            TOO_LONG_REQUEST,
        ),
        (
            400,
            {},
            {
                "error": "Trying to keep the first 9 tokens when context the overflows. However,"
                " the number of tokens to keep from the initial prompt is greater than the context"
                " length"
            },
            TOO_LONG_REQUEST,
        ),
        (
            503,
            {},
            {"error": "server busy, please try again.  maximum pending requests exceeded"},
            overloaded(),
        ),
        (400, {}, {"error": "the input length exceeds the context length"}, TOO_LONG_REQUEST),
        (500, {}, {"error": "error loading model m"}, TRANSIENT),
        (503, {}, {"error": "model is loading"}, overloaded()),
    ],
    "any": [
        (429, {}, None, limited()),
        (429, {}, "<html>", limited()),
        (429, {}, {"error": "API key rate limit exceeded"}, limited(account=True)),
        (
            429,
            {},
            openai("You exceeded your current quota, please check your plan"),
            spent(account=False),
        ),
        (429, {}, {"error": "Your daily limit is reached"}, spent(account=False)),
        (429, {}, {"error": "More than 10 calls per minute or 500 per day"}, limited()),
        (503, {}, {"error": "Service Unavailable"}, TRANSIENT),
        (503, {"retry-after": "7"}, None, overloaded(7)),
        (500, {"retry-after": "7"}, None, TRANSIENT),
        (500, {}, {"error": "model 'x' not found"}, TRANSIENT),
        (413, {}, "<html>", TOO_LONG_REQUEST),
        *[(status, {}, None, TIMEOUT) for status in (408, 504, 522, 524)],
    ],
}


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
