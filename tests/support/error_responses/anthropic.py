"""Lists error responses of Anthropic."""

from support.error_responses.bodies import anthropic
from support.error_responses.judgements import (
    FILTERED_REQUEST,
    TOO_LONG_REQUEST,
    TRANSIENT,
    Responses,
    limited,
    overloaded,
    spent,
)

RESPONSES: Responses = {
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
}
