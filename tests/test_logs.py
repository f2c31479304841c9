"""The log has a line for each job and each failed attempt, and none for a success."""

import json
from collections.abc import AsyncIterator
from typing import IO, Any

import httpx
import pytest
from support.logs import log_of
from support.stack import Stack, chat

from shared.queue.redis_keys import Keys


@pytest.fixture
async def deployment(valkey_url: str, keys: Keys, output: IO[bytes]) -> AsyncIterator[Stack]:
    settings = {"LOG_LEVEL": "INFO", "MAX_RETRIES": "1"}
    deployment = Stack(valkey_url, keys, settings, output=output)
    await deployment.start(workers=1)
    yield deployment
    await deployment.stop()


async def test_each_job_and_each_failed_attempt_is_logged(
    deployment: Stack, output: IO[bytes]
) -> None:
    requests = [chat(str(n), model="sim-500" if n == 7 else "m") for n in range(20)]
    requests.append(chat("x", provider="ollama"))
    batch = await deployment.batch(requests, headers={"X-Request-ID": "mine-1"})
    again = {"Idempotency-Key": "same"}
    first = await deployment.batch([chat("y")], headers=again)
    await deployment.batch([chat("y")], headers=again)

    lines = [json.loads(line) for line in (await log_of(deployment, output)).splitlines()]

    job = batch.json()["job_id"]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    by_event: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        facts = {k: v for k, v in line.items() if k not in {"event", "level", "timestamp"}}
        by_event.setdefault(line["event"], []).append(facts)
    assert by_event.keys() == {
        "api_started",
        "worker_started",
        "job_accepted",
        "job_repeated",
        "attempt_failed",
        "worker_stopped",
    }
    requests_of = {"openrouter": 20, "ollama": 1}
    accepted, other = by_event["job_accepted"]
    assert accepted == {"job": job, "requests": requests_of, "owner": None, "request": "mine-1"}
    assert other["job"] == first.json()["job_id"]
    [repeated] = by_event["job_repeated"]
    assert repeated["job"] == first.json()["job_id"]
    failed = {
        "job": job,
        "item": 7,
        "provider": "openrouter",
        "model": "sim-500",
        "code": "provider_error",
        "status_code": 500,
        "reason": "openrouter answered 500: Internal Server Error",
    }
    assert by_event["attempt_failed"] == [
        {**failed, "attempt": 1, "retries_left": 1},
        {**failed, "attempt": 2, "retries_left": 0},
    ]


@pytest.mark.parametrize("sent", [None, "x" * 65, "a b", "é".encode("latin-1")])
async def test_every_response_has_a_request_id(api: httpx.AsyncClient, sent: Any) -> None:
    answers = [
        await api.get("/health", headers={} if sent is None else {"X-Request-ID": sent})
        for _ in range(2)
    ]

    ids = {answer.headers["x-request-id"] for answer in answers}

    assert len(ids) == 2
    assert all(len(one) == 32 for one in ids)


async def test_the_clients_request_id_is_returned(api: httpx.AsyncClient) -> None:
    answer = await api.get("/jobs/none", headers={"X-Request-ID": "mine"})

    assert answer.headers["x-request-id"] == "mine"
