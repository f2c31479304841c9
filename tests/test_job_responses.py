"""Tests the JSON of a job with its results, small or large."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.stack import chat

from shared.jobs.snapshot import Snapshot, parse_snapshot
from shared.jobs.views import response, response_json
from shared.models import ErrorCode, LLMResponse
from shared.queue.item_results import Result
from shared.queue.redis_keys import Keys

METAS: list[Any] = [
    (None, "openrouter", "m"),
    ("é", "@an%20alias", "an alias", '{"n":123456789012345678901234567890}'),
]
RESULTS = [
    Result(),
    Result(content='é"\n\x1f', prompt_tokens=1, total_tokens=2**40, attempts=3, cost_usd=1e-7),
    Result(error="e", error_code=ErrorCode.TIMEOUT, status_code=500, refusal={"type": "x"}),
    Result(body='{"n":1e400}', served_provider="p", served_model="M", route=[{"model": "a"}]),
    Result(message={"refusal": None}, choices=[1, {}], logprobs=[], usage={}, latency_ms=1.5),
]


def snapshot(**fields: bytes) -> Snapshot:
    known = {"total": b"1", "owner": b"", "accepted_ms": b"1"} | fields
    names = ("total", "owner", "accepted_ms", "started_ms", "finished_ms", "finished_early_as")
    reply = [[*map(known.get, names), *[None] * 7], 0, 0, 0, 0, None]
    found = parse_snapshot(reply)
    assert found is not None
    return found


@pytest.mark.parametrize("meta", METAS)
@pytest.mark.parametrize("result", RESULTS)
def test_the_json_of_a_result_is_that_of_its_model(meta: Any, result: Result) -> None:
    stored = b"1732612345678.125 " + result.to_json()
    model = response(meta, stored, snapshot())
    assert model is not None
    text = response_json(meta, stored, snapshot())
    assert text.decode() == model.to_json()
    read = json.loads(text)
    assert read["timestamp"] == "2024-11-26T09:12:25.678125Z"
    shown = LLMResponse.model_validate({**model.model_dump(), "timestamp": datetime.now(UTC)})
    expected = json.loads(shown.model_dump_json()) | {"timestamp": read["timestamp"]}
    optional = ("message", "choices", "logprobs", "usage", "body", "metadata", "route")
    assert {n: v for n, v in read.items() if n not in optional} == expected


def test_the_json_of_an_item_without_a_result() -> None:
    assert response_json(METAS[0], None, snapshot()) == b"null"
    cancelled = snapshot(finished_ms=b"1000", finished_early_as=b"cancelled")
    assert json.loads(response_json(METAS[0], None, cancelled))["error_code"] == "cancelled"


async def finish(redis: ArqRedis, keys: Keys, job: str, index: int, size: int) -> None:
    result = b"1 " + Result(content="x" * size, attempts=1).to_json()
    await redis.hset(keys.results(job), str(index), result.decode())  # type: ignore[misc]
    await redis.rpush(keys.completion_order(job), index)  # type: ignore[misc]


@pytest.mark.parametrize("sizes", [[10, 20, 30], [1_000_000, 10, 300_000]], ids=["small", "large"])
async def test_a_job_has_its_results_of_any_size(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys, sizes: list[int]
) -> None:
    requests = [chat("x", request_id=str(size)) for size in sizes]
    accepted = await api.post("/batch?mode=async", json={"requests": requests})
    path, job = accepted.headers["location"], accepted.json()["job_id"]
    assert accepted.json()["responses"] == [None] * 3
    await finish(redis, keys, job, 0, sizes[0])
    some = (await api.get(path)).json()
    for index in (1, 2):
        await finish(redis, keys, job, index, sizes[index])
    await redis.hset(keys.job(job), "finished_ms", str(datetime.now().timestamp() * 1000))  # type: ignore[misc]  # noqa: DTZ005
    answer = await api.get(path)
    whole = answer.json()

    assert [len(r["content"]) if r else None for r in some["responses"]] == [sizes[0], None, None]
    assert (some["status"], some["successful"]) == ("queued", 1)
    assert answer.headers["content-type"] == "application/json"
    assert [(r["request_id"], len(r["content"])) for r in whole["responses"]] == [
        (str(size), size) for size in sizes
    ]
    assert {**whole, "responses": 0}.keys() == accepted.json().keys()
    assert (whole["status"], whole["successful"]) == ("completed", 3)


async def test_a_job_of_many_requests_has_no_responses(api: httpx.AsyncClient) -> None:
    body = b"\n".join([json.dumps(chat("x")).encode()] * 101)
    headers = {"Content-Type": "application/x-ndjson"}
    accepted = (await api.post("/jobs", content=body, headers=headers)).json()
    assert accepted["responses"] is None
    assert (await api.get(f"/jobs/{accepted['job_id']}")).json()["responses"] is None
