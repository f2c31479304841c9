"""Tests the lines of results in a vendor's format."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from api.streams.vendor_results import ResultFormat, vendor_format
from shared.models import ErrorCode, JobItem, JobStatus, JobSummary
from shared.queue.item_results import Result

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = JobSummary(
    job_id="j",
    owner="",
    status=JobStatus.COMPLETED,
    total_requests=1,
    providers={"openai": 1},
    queued=0,
    retrying=0,
    running=0,
    successful=1,
    failed=0,
    cancelled=0,
    accepted_at=NOW,
    started_at=NOW,
    finished_at=NOW,
    deadline_at=None,
    retry_of=None,
    retried_as=None,
    webhook=None,
    total_latency_ms=1.0,
    average_latency_ms=1.0,
)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("result", "body"),
    [
        (
            {"message": {"content": "x", "details": nested(250)}},
            lambda choices: choices[0]["message"]["details"],
        ),
        ({"choices": [{"message": nested(250)}]}, lambda choices: choices[0]["message"]),
        ({"logprobs": nested(250)}, lambda choices: choices[0]["logprobs"]),
    ],
    ids=["message", "choices", "logprobs"],
)
def test_what_a_worker_can_store_can_be_returned(result: dict[str, Any], body: Any) -> None:
    stored = json.loads(Result(content="x", **result).to_json())
    item = JobItem(
        **{**Result().to_dict(), **stored},
        request_id="a",
        provider="openai",
        model="m",
        timestamp=NOW,
        index=0,
        cursor=1,
    )

    line = json.loads(vendor_format(ResultFormat.OPENAI, JOB).item(item))

    assert body(line["response"]["body"]["choices"]) == nested(250)


def test_a_refusal_has_the_codes_of_openai() -> None:
    refused = Result(
        error="openai answered 400: too long",
        error_code=ErrorCode.CONTEXT_TOO_LONG,
        status_code=400,
        refusal={"type": "invalid_request_error", "param": "messages"},
    )
    item = JobItem(
        **refused.to_dict(),
        request_id="r",
        provider="openai",
        model="m",
        timestamp=NOW,
        index=0,
        cursor=1,
    )

    line = json.loads(vendor_format(ResultFormat.OPENAI, JOB).item(item))

    assert line["error"] is None
    assert line["response"]["status_code"] == 400
    assert line["response"]["body"]["error"] == {
        "message": "openai answered 400: too long",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
