"""Tests what a worker tells the queue about the limits of a call."""

from math import inf
from typing import Any

import httpx
import orjson
import pytest

from shared.dialects.dialect import Answer
from shared.providers import Provider
from shared.queue.ids import ItemId, LeaseId
from shared.queue.item_request import ItemRequest
from shared.queue.leases import Announced, CallUsage
from worker.outcomes import Attempt
from worker.providers.announced_limits import AnnouncedLimit, Dimension, announced_rates
from worker.usage import HeaderReading, usage_of

ROW = Provider("p", "https://p.example/v1")
RESERVING = Provider("p", "https://p.example/v1", reserves_output=True)
ANSWER = Answer("four", prompt_tokens=7, completion_tokens=3)
HEADERS = httpx.Headers(
    {"X-RateLimit-Limit-Requests": "500", "x-ratelimit-remaining-requests": "499"}
)
LIMITED = "j:0@17~am@x~1"


def attempt(lease_id: str) -> Attempt:
    return Attempt(
        ItemId("j:0"),
        LeaseId(lease_id),
        "p",
        number=1,
        calls=1,
        queued_ms=0,
        retried_ms=0,
        remaining_s=inf,
    )


def native(**fields: Any) -> ItemRequest:
    return {"provider": "p", "model": "m", "chat": {"messages": [], **fields}}


def foreign(operation: str, **fields: Any) -> ItemRequest:
    before, after = orjson.dumps({**fields, "model": 0}).decode()[:-2], "}"
    return {"provider": "p", "model": "m", "operation": operation, "body": [before, after]}


@pytest.mark.parametrize(
    ("row", "lease", "request_", "output_tokens"),
    [
        (ROW, LIMITED, native(max_tokens=90), 3),
        (RESERVING, LIMITED, native(max_tokens=90), 90),
        (RESERVING, LIMITED, native(max_completion_tokens=80), 80),
        (RESERVING, LIMITED, native(max_tokens=None), 3),
        (RESERVING, LIMITED, native(), 3),
        (RESERVING, LIMITED, foreign("responses", max_output_tokens=70), 70),
        (
            RESERVING,
            LIMITED,
            foreign("generate_content", generationConfig={"maxOutputTokens": 60}),
            60,
        ),
        (ROW, "j:0@17", native(), None),
    ],
)
def test_the_tokens_that_count(
    row: Provider, lease: str, request_: ItemRequest, output_tokens: int | None
) -> None:
    expected = None if output_tokens is None else CallUsage(7, output_tokens)

    assert usage_of(row, attempt(lease), request_, ANSWER, None) == expected


def test_a_lease_with_a_limiter_has_the_time_of_its_claim() -> None:
    assert LeaseId(LIMITED).claimed_us == LeaseId("j:0@17").claimed_us == 17
    assert LeaseId(LIMITED).is_limited
    assert not LeaseId("j:0@17").is_limited


def test_the_headers_of_a_model_are_read_once_a_second() -> None:
    reading = HeaderReading()
    first, second = (reading.of_call(ROW, "p", "m") for _ in range(2))
    assert first is not None
    assert second is not None
    first(HEADERS)
    second(HEADERS)

    announced = {"rpm": Announced(500, 499)}
    unlimited = attempt("j:0@17")
    assert usage_of(ROW, unlimited, native(), None, first) == CallUsage(announced=announced)
    assert usage_of(ROW, unlimited, native(), ANSWER, second) is None
    assert usage_of(ROW, attempt(LIMITED), native(), ANSWER, first) == CallUsage(7, 3, announced)
    assert reading.of_call(ROW, "p", "m") is None
    assert reading.of_call(ROW, "p", "other") is not None


def test_a_row_without_headers_reads_none() -> None:
    row = Provider("p", "https://p.example/v1", limit_headers="none")

    assert HeaderReading().of_call(row, "p", "m") is None


@pytest.mark.parametrize(
    ("limits", "rates"),
    [
        (
            {"requests": AnnouncedLimit(60, 60, 59), "daily_requests": AnnouncedLimit(900, 86_400)},
            {"rpm": Announced(60, 59), "rpd": Announced(900)},
        ),
        (
            # Anthropic: all tokens together stay within the lower limit
            {
                "tokens": AnnouncedLimit(58_000, 60, 57_000),
                "input_tokens": AnnouncedLimit(50_000, 60, 49_500),
                "output_tokens": AnnouncedLimit(8_000, 60, 8_000),
            },
            {"tpm": Announced(50_000, 49_500)},
        ),
        # Fireworks: limits per second
        ({"input_tokens": AnnouncedLimit(1_000, 1, 900)}, {}),
    ],
)
def test_announced_limits_as_the_queue_keeps_them(
    limits: dict[Dimension, AnnouncedLimit], rates: dict[str, Announced]
) -> None:
    assert announced_rates(limits) == rates
