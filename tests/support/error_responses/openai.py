"""Lists error responses of OpenAI and of Azure."""

from support.error_responses.bodies import openai, openai_quota
from support.error_responses.judgements import (
    FILTERED_REQUEST,
    REFUSED_KEY,
    REJECTED,
    TOO_LONG_REQUEST,
    TRANSIENT,
    Responses,
    limited,
    overloaded,
    spent,
)

RESPONSES: Responses = {
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
}
