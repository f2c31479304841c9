"""Tests the results of a job as NDJSON: filters, positions, and results while the job runs."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from support.jobs import job, lines, results, upload, wait_completed
from support.stack import Stack, Start, eventually


@pytest.fixture
async def mixed(stack: Start) -> tuple[Stack, str]:
    """Returns a completed job: 60 items of one provider, half of them failed, then 60 others."""
    deployment = await stack(workers=1, MAX_CONCURRENT_REQUESTS="60")
    await deployment.simulate(by_dialect={"ollama": {"latency_ms": 2000}})
    body = b"".join(
        lines([str(n)], provider="ollama" if n % 2 else "openrouter", model=model)
        for n in range(120)
        for model in ("sim-404" if n % 4 == 0 else "m",)
    )
    location = await upload(deployment.api, body)
    await wait_completed(deployment.api, location)
    return deployment, location


async def test_results_are_ordered_and_filtered(mixed: tuple[Stack, str]) -> None:
    deployment, location = mixed

    in_order = await results(deployment.api, location)
    completed = await results(deployment.api, location, order="completion")
    failed = await results(deployment.api, location, status="failed")
    successful = await results(deployment.api, location, status="successful", order="completion")

    assert [line["index"] for line in in_order] == list(range(120))
    assert sorted(line["index"] for line in completed) == list(range(120))
    assert [line["provider"] for line in completed] == ["openrouter"] * 60 + ["ollama"] * 60
    assert [line["cursor"] for line in completed] == list(range(1, 121))
    timestamps = [line["timestamp"] for line in completed]
    assert timestamps == sorted(timestamps)
    assert [line["index"] for line in failed] == list(range(0, 120, 4))
    assert {line["error_code"] for line in failed} == {"model_not_found"}
    assert sorted(line["index"] for line in successful) == [n for n in range(120) if n % 4]
    responses = {json.dumps({k: v for k, v in line.items() if k != "cursor"}) for line in in_order}
    assert responses == {
        json.dumps({k: v for k, v in line.items() if k != "cursor"}) for line in completed
    }


async def test_results_continue_after_any_line(mixed: tuple[Stack, str]) -> None:
    deployment, location = mixed
    for order in ("index", "completion"):
        whole = await results(deployment.api, location, order=order)

        for position in (0, 1, 49, 50, 51, 119, 120):
            rest = await results(deployment.api, location, order=order, after=position)

            assert rest == whole[position:], order


async def test_an_invalid_position_is_refused(mixed: tuple[Stack, str]) -> None:
    deployment, location = mixed
    for after in ("121", "-1", "x", "", "1.5", "٣", "9" * 400):
        answer = await deployment.api.get(f"{location}/results", params={"after": after})

        assert answer.status_code == 400, after
        assert "detail" in answer.json()


async def test_results_are_streamed_while_the_job_runs(stack: Start) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(by_dialect={"ollama": {"latency_ms": 60_000}})
    body = lines(["a", "b"]) + lines(["slow"], provider="ollama") + lines(["c"])
    location = await upload(deployment.api, body)

    async def three_have_ended() -> bool:
        return bool((await job(deployment.api, location))["successful"] == 3)

    await eventually(three_have_ended)
    now = await results(deployment.api, location, follow=False)
    now_completed = await results(deployment.api, location, follow=False, order="completion")
    following = asyncio.create_task(results(deployment.api, location))
    async with deployment.api.stream("GET", f"{location}/results") as stream:
        early = [json.loads(await anext(aiter(stream.aiter_lines())))]
    cancelled = await deployment.api.delete(location)

    assert [line["index"] for line in now] == [0, 1]  # the next item is 2, whenever it finishes
    assert {line["index"] for line in now_completed} == {0, 1, 3}
    assert early == now[:1]
    assert cancelled.json()["status"] == "cancelled"
    whole = await following
    assert [line["error_code"] for line in whole] == [None, None, "cancelled", None]


async def test_results_of_a_cancelled_job(stack: Start) -> None:
    deployment = await stack(workers=0)
    location = await upload(deployment.api, lines(str(n) for n in range(130)))
    await deployment.api.delete(location)

    for order in ("index", "completion"):
        lines_ = await results(deployment.api, location, order=order)

        assert [line["index"] for line in lines_] == list(range(130))
        assert {line["error_code"] for line in lines_} == {"cancelled"}
    assert await results(deployment.api, location, status="failed", after=129) == lines_[129:]


@pytest.mark.parametrize("path", ["results", "events"])
async def test_an_unknown_job_has_no_stream(stack: Start, path: str) -> None:
    deployment = await stack(workers=0)

    answer = await deployment.api.get(f"/jobs/nobody/{path}")

    assert answer.status_code == 404


async def in_pieces(client: httpx.AsyncClient, location: str) -> list[dict[str, Any]]:
    """Reads the results over connections that are closed after some lines."""
    found: list[dict[str, Any]] = []
    while True:
        query = {"order": "completion", "after": str(found[-1]["cursor"]) if found else "0"}
        async with client.stream("GET", f"{location}/results", params=query) as answer:
            taken = 0
            async for line in answer.aiter_lines():
                found.append(json.loads(line))
                taken += 1
                if taken == 37:
                    break
            else:
                return found


async def test_a_reader_that_reconnects_misses_nothing(stack: Start) -> None:
    deployment = await stack(workers=2, MAX_CONCURRENT_REQUESTS="20")
    await deployment.simulate(latency_ms=20, latency_spread_ms=20)
    location = await upload(deployment.api, lines(str(n) for n in range(400)))

    found = await in_pieces(deployment.api, location)

    assert sorted(line["index"] for line in found) == list(range(400))
    assert found == await results(deployment.api, location, order="completion")


async def test_results_without_content_and_with_a_limit(stack: Start) -> None:
    deployment = await stack(workers=1)
    contents = [str(n) for n in range(120)]
    body = lines(contents[:60]) + lines(contents[60:], model="sim-404")
    location = await upload(deployment.api, body)

    brief = await results(deployment.api, location, content=False)
    some = await results(deployment.api, location, after=10, limit=3)
    failed = await results(deployment.api, location, status="failed", limit=55)
    refused = await deployment.api.get(f"{location}/results", params={"limit": 0})

    assert [item["content"] for item in brief] == [""] * 120
    assert [item["attempts"] for item in brief] == [1] * 120
    assert [(item["index"], item["content"]) for item in some] == [
        (n, f"echo: {n}") for n in (10, 11, 12)
    ]
    assert [item["index"] for item in failed] == list(range(60, 115))
    assert refused.status_code == 422
