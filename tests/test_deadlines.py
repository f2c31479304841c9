"""Tests jobs with a deadline."""

import asyncio
from datetime import datetime

import httpx
import pytest
from support.jobs import job, lines, results, upload, wait_completed
from support.stack import Start, chat, eventually

from api.streams.result_stream import READ_AGAIN_S


async def test_unfinished_items_fail_at_the_deadline(stack: Start) -> None:
    """Running calls are stopped, queued items do not start, and finished items stay finished."""
    deployment = await stack(workers=1, MAX_CONCURRENT_REQUESTS="2")
    await deployment.simulate(by_dialect={"ollama": {"latency_ms": 60_000}})
    requests = [chat("fast")] + [chat(f"slow {n}", provider="ollama") for n in range(5)]

    answer = await deployment.api.post("/batch", json={"requests": requests, "deadline_s": 3})

    assert answer.status_code == 200
    codes = [response["error_code"] for response in answer.json()["responses"]]
    assert codes == [None] + ["deadline_exceeded"] * 5
    status = await job(deployment.api, answer.headers["location"])
    accepted, deadline = (
        datetime.fromisoformat(status[f"{t}_at"]) for t in ("accepted", "deadline")
    )
    assert (deadline - accepted).total_seconds() == pytest.approx(3)
    assert status["status"] == "deadline_exceeded"

    async def idle() -> bool:
        return bool((await deployment.stats())["in_flight"] == 0)

    await eventually(idle)
    assert (await deployment.stats())["total"] == 3


async def test_a_retry_after_the_deadline_is_not_made(stack: Start) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(retry_after="60")
    location = await upload(
        deployment.api, lines(["x"], model="sim-429x1"), params={"deadline_s": "30"}
    )

    status = await wait_completed(deployment.api, location)

    [response] = status["responses"]
    assert response["error_code"] == "deadline_exceeded"
    assert "429" in response["error"] or "rate" in response["error"]
    assert response["attempts"] == 1


async def test_a_job_that_finishes_before_its_deadline_completes(stack: Start) -> None:
    deployment = await stack(workers=1)
    location = await upload(deployment.api, lines(["x"] * 300), params={"deadline_s": "60"})

    answers = await results(deployment.api, location)

    assert {answer["error"] for answer in answers} == {None}
    assert (await job(deployment.api, location))["status"] == "completed"


async def test_a_job_ends_at_its_deadline_without_a_worker(stack: Start) -> None:
    deployment = await stack(workers=0)
    location = await upload(deployment.api, lines(["x"] * 300), params={"deadline_s": "0.1"})

    status = await wait_completed(deployment.api, location)

    assert (status["status"], status["failed"]) == ("deadline_exceeded", 300)
    assert {r["error_code"] for r in await results(deployment.api, location)} == {
        "deadline_exceeded"
    }


async def test_a_stream_ends_at_the_deadline(stack: Start) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=60_000)
    location = await upload(deployment.api, lines(["x"] * 20), params={"deadline_s": "0.5"})

    # The time is too short for a stream that only reads again: a message must arrive.
    async with asyncio.timeout(READ_AGAIN_S - 3):
        answers = await results(deployment.api, location)

    assert {answer["error_code"] for answer in answers} == {"deadline_exceeded"}


@pytest.mark.parametrize("deadline", [0, -1, "soon", 1e9, None])
async def test_an_invalid_deadline_is_refused(
    api: httpx.AsyncClient, deadline: float | str | None
) -> None:
    body = {"requests": [chat("x")], "deadline_s": deadline}

    batch = await api.post("/batch?mode=async", json=body)
    answer = await api.post(
        "/jobs",
        content=lines(["x"]),
        params={"deadline_s": str(deadline)},
        headers={"Content-Type": "application/x-ndjson"},
    )

    assert batch.status_code == (202 if deadline is None else 422)
    assert answer.status_code == 422
