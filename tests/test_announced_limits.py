"""Tests how the limits that a provider announces are read from the headers of a response."""

from datetime import UTC, datetime

import httpx
import pytest

from shared.providers import PROVIDERS
from worker.providers.announced_limits import AnnouncedLimit, Dimension, announced_limits

NOW = datetime(2026, 11, 6, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("provider", "headers", "limits"),
    [
        (
            "openai",
            {
                "x-ratelimit-limit-requests": "5000",
                "x-ratelimit-limit-tokens": "160000",
                "x-ratelimit-remaining-requests": "4999",
                "x-ratelimit-remaining-tokens": "159976",
                "x-ratelimit-reset-requests": "12ms",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            {
                "requests": AnnouncedLimit(5000, 60, 4999, 0.012),
                "tokens": AnnouncedLimit(160_000, 60, 159_976, 360),
            },
        ),
        (
            "azure",
            {
                "x-ratelimit-limit-requests": "-1",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-limit-tokens": "0",
                "x-ratelimit-remaining-tokens": "",
            },
            {},
        ),
        (
            "azure",
            {"X-RateLimit-Limit-Tokens": "90000", "X-RateLimit-Remaining-Tokens": "-1"},
            {"tokens": AnnouncedLimit(90_000, 60)},
        ),
        (
            "anthropic",
            {
                "date": "Fri, 06 Nov 2026 07:59:50 GMT",
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2026-11-06T08:00:00Z",
                "anthropic-ratelimit-input-tokens-limit": "30000",
                "anthropic-ratelimit-output-tokens-limit": "8000",
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2026-11-06T07:59:00Z",
            },
            {
                "requests": AnnouncedLimit(50, 60, 49, 10),
                "input_tokens": AnnouncedLimit(30_000, 60),
                "output_tokens": AnnouncedLimit(8000, 60, 0, 0),
            },
        ),
        (
            "groq",
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-limit-tokens": "18000",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-remaining-tokens": "17997",
                "x-ratelimit-reset-requests": "2m59.5s",
                "x-ratelimit-reset-tokens": "7.66s",
            },
            {
                "daily_requests": AnnouncedLimit(14_400, 86_400, 14_370, 179.5),
                "tokens": AnnouncedLimit(18_000, 60, 17_997, 7.66),
            },
        ),
        (
            "cerebras",
            {
                "x-ratelimit-limit-requests-day": "14400",
                "x-ratelimit-remaining-requests-day": "14399",
                "x-ratelimit-reset-requests-day": "33011.382867",
                "x-ratelimit-limit-tokens-minute": "60000",
                "x-ratelimit-reset-tokens-minute": "11.38",
            },
            {
                "daily_requests": AnnouncedLimit(14_400, 86_400, 14_399, 33_011.382867),
                "tokens": AnnouncedLimit(60_000, 60, None, 11.38),
            },
        ),
        (
            "fireworks",
            {
                "X-Ratelimit-Limit-Tokens-Prompt": "60000",
                "X-Ratelimit-Remaining-Tokens-Prompt": "59000",
                "X-Ratelimit-Limit-Tokens-Generated": "600",
            },
            {
                "input_tokens": AnnouncedLimit(60_000, 1, 59_000),
                "output_tokens": AnnouncedLimit(600, 1),
            },
        ),
        ("mistral", {"x-ratelimit-limit-requests": "nan"}, {}),
        ("ollama", {}, {}),
        ("openrouter", {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0"}, {}),
    ],
)
def test_announced_limits(
    provider: str, headers: dict[str, str], limits: dict[Dimension, AnnouncedLimit]
) -> None:
    kind = PROVIDERS[provider].limit_headers

    assert announced_limits(kind, httpx.Headers(headers), NOW) == limits


def test_a_provider_whose_headers_are_not_read() -> None:
    headers = httpx.Headers({"x-ratelimit-limit-requests": "5000"})

    assert announced_limits("none", headers, NOW) == {}
