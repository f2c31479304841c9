"""Lists error responses of the other vendors that host models."""

from shared.models import ErrorCode
from shared.queue.verdict import Verdict
from support.error_responses.bodies import (
    openai,
    openai_quota,
    openrouter,
)
from support.error_responses.judgements import (
    EPOCH,
    FILTERED_REQUEST,
    TOO_LONG_REQUEST,
    TRANSIENT,
    UNPAID,
    Responses,
    limited,
    overloaded,
    spent,
)
from worker.providers.verdicts import Judgement

RESPONSES: Responses = {
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
        (403, {}, {"message": "x"}, Judgement(Verdict.UNAUTHORIZED, ErrorCode.UNAUTHORIZED)),
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
}
