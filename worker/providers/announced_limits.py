"""Reads the rate limits that a provider announces in the headers of its responses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.providers.provider_row import LimitHeaders
from shared.queue.leases import Announced
from worker.providers.retry_after import number, reset_s, sent_at

Dimension = Literal["requests", "daily_requests", "tokens", "input_tokens", "output_tokens"]

_SECOND, _MINUTE, _DAY = 1.0, 60.0, 86_400.0
# What each limit counts and its period in seconds, by the part of the headers' names that stands
# for the limit.
# The names are `x-ratelimit-limit-{part}`, `x-ratelimit-remaining-{part}` and
# `x-ratelimit-reset-{part}`; Anthropic's are `anthropic-ratelimit-{part}-limit` and so on.
_PARTS: Mapping[LimitHeaders, Mapping[str, tuple[Dimension, float]]] = {
    # https://developers.openai.com/api/docs/guides/rate-limits
    "openai": {"requests": ("requests", _MINUTE), "tokens": ("tokens", _MINUTE)},
    # https://platform.claude.com/docs/en/api/rate-limits
    "anthropic": {
        "requests": ("requests", _MINUTE),
        "tokens": ("tokens", _MINUTE),
        "input-tokens": ("input_tokens", _MINUTE),
        "output-tokens": ("output_tokens", _MINUTE),
    },
    # https://console.groq.com/docs/rate-limits
    "groq": {"requests": ("daily_requests", _DAY), "tokens": ("tokens", _MINUTE)},
    # https://inference-docs.cerebras.ai/support/rate-limits
    "cerebras": {
        "requests-minute": ("requests", _MINUTE),
        "requests-day": ("daily_requests", _DAY),
        "tokens-minute": ("tokens", _MINUTE),
    },
    # https://docs.fireworks.ai/serverless/rate-limits
    "fireworks": {
        "requests": ("requests", _MINUTE),
        "tokens-prompt": ("input_tokens", _SECOND),
        "tokens-generated": ("output_tokens", _SECOND),
    },
    "none": {},
}


@dataclass(frozen=True, slots=True)
class AnnouncedLimit:
    """Holds one limit that a provider announced.

    limit: number of requests or tokens in `period_s` seconds; more than 0.
    remaining: number that was left when the provider answered; None if no header says it.
    reset_s: seconds after which the whole limit is available again; None if no header says it.
    """

    limit: float
    period_s: float
    remaining: float | None = None
    reset_s: float | None = None


def announced_limits(
    kind: LimitHeaders, headers: Mapping[str, str], now: datetime
) -> dict[Dimension, AnnouncedLimit]:
    """Returns the limits in the headers of a response. The keys say what is limited.

    kind: the row's `limit_headers`.
    headers: the names may be in upper or lower case, as in `httpx.Headers`.
    now: used for dates if the response has no Date header.

    Leaves out a limit that is missing, empty, 0 or negative. Azure sends -1 for some models.
    """
    return dict(_announced(kind, headers, now))


def _announced(
    kind: LimitHeaders, headers: Mapping[str, str], now: datetime
) -> Iterator[tuple[Dimension, AnnouncedLimit]]:
    form = "anthropic-ratelimit-{1}-{0}" if kind == "anthropic" else "x-ratelimit-{0}-{1}"
    for part, (dimension, period_s) in _PARTS[kind].items():
        limit = number(headers.get(form.format("limit", part), ""))
        if limit:
            remaining = number(headers.get(form.format("remaining", part), ""))
            reset = headers.get(form.format("reset", part), "")
            seconds = reset_s(reset, sent_at(headers, now)) if reset else None
            yield dimension, AnnouncedLimit(limit, period_s, remaining, seconds)


_RATES: Mapping[str, tuple[float, tuple[Dimension, ...]]] = {
    "rpm": (_MINUTE, ("requests",)),
    "rpd": (_DAY, ("daily_requests",)),
    "tpm": (_MINUTE, ("tokens", "input_tokens")),
}


def announced_rates(limits: Mapping[Dimension, AnnouncedLimit]) -> dict[str, Announced]:
    """Returns the limits as the queue keeps them, by `rpm`, `rpd` and `tpm`.

    `tpm` is the lower of the limits of tokens and of input tokens. The queue applies it to all
    tokens of a call. A limit of output tokens is left out: if the provider refuses calls because of
    this limit, the provider is paused. A limit per second is left out, because a worker may use up
    an announced limit in one burst.
    """
    rates = {}
    for rate, (period_s, dimensions) in _RATES.items():
        found = [limits[name] for name in dimensions if name in limits]
        kept = [one for one in found if one.period_s == period_s]
        if kept:
            lowest = min(kept, key=lambda one: one.limit)
            rates[rate] = Announced(lowest.limit, lowest.remaining)
    return rates
