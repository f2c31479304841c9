"""Tests GET and DELETE /jobs/{id}."""

import asyncio
from datetime import datetime
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.in_process import running_api, running_worker
from support.jobs import job
from support.stack import chat, eventually, stored

from cli.simulator import Simulator
from shared.queue.redis_keys import Keys
from shared.settings import ProviderSettings, Settings

Providers = dict[str, ProviderSettings]
COUNTS = ("status", "queued", "running", "successful", "failed")


async def submit(client: httpx.AsyncClient, *requests: dict[str, Any]) -> str:
    answer = await client.post("/batch?mode=async", json={"requests": requests})
    assert answer.status_code == 202, answer.text
    location: str = answer.headers["location"]
    return location


def counts(status: dict[str, Any]) -> list[Any]:
    return [status[name] for name in COUNTS]


async def reaches(client: httpx.AsyncClient, location: str, *expected: str | int) -> dict[str, Any]:
    """Waits until a job has these counts, and returns its status."""
    last: dict[str, Any] = {}

    async def reached() -> bool:
        last.update(await job(client, location))
        return counts(last) == list(expected)

    try:
        await eventually(reached)
    except TimeoutError:
        pytest.fail(f"still {counts(last)}, not {expected}")
    return last


async def test_job_is_queued_without_a_worker(api: httpx.AsyncClient) -> None:
    location = await submit(api, chat("x"), chat("y"))

    status = await job(api, location)

    assert counts(status) == ["queued", 2, 0, 0, 0]
    assert status["responses"] == [None, None]
    assert (status["started_at"], status["finished_at"]) == (None, None)


async def test_life_of_a_job(
    settings: Settings, providers: Providers, api: httpx.AsyncClient
) -> None:
    location = await submit(
        api,
        chat("fast"),
        chat("bad", model="sim-status-400"),
        chat("slow", model="sim-latency-600", request_id="s"),
        chat("last"),
    )
    queued = await job(api, location)
    async with running_worker(
        settings.model_copy(update={"max_concurrent_requests": 1}), providers
    ):
        running = await reaches(api, location, "running", 1, 1, 1, 1)
        completed = await reaches(api, location, "completed", 0, 0, 3, 1)

    assert queued["status"] == "queued"
    assert running["accepted_at"] == completed["accepted_at"] == queued["accepted_at"]
    assert running["started_at"] == completed["started_at"]
    assert (running["finished_at"], running["total_latency_ms"]) == (None, None)
    assert running["responses"] == [*completed["responses"][:2], None, None]
    accepted, started, finished = (
        datetime.fromisoformat(completed[name])
        for name in ("accepted_at", "started_at", "finished_at")
    )
    assert accepted <= started < finished
    responses = completed["responses"]
    assert [r["content"] for r in responses] == ["echo: fast", "", "echo: slow", "echo: last"]
    assert responses[2]["request_id"] == "s"
    assert completed["total_latency_ms"] == pytest.approx(
        (finished - accepted).total_seconds() * 1000, abs=0.01
    )
    assert completed["average_latency_ms"] == pytest.approx(
        sum(r["latency_ms"] for r in responses) / 4, abs=0.01
    )


@pytest.mark.usefixtures("worker")
async def test_job_of_a_synchronous_batch_has_its_results(api: httpx.AsyncClient) -> None:
    batch = (await api.post("/batch", json={"requests": [chat("x"), chat("y")]})).json()

    status = await job(api, f"/jobs/{batch['job_id']}")

    assert {name: status[name] for name in batch} == batch


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    "job_id",
    [
        "0" * 32,
        "x",
        "%2e%2e",
        "a%20b",
        "%00",
        "%0d%0a",
        "%ff%fe",
        "é😀",
        "*",
        "1:2",
        "x" * 9999,
    ],
    ids=lambda job_id: job_id[:8],
)
async def test_unknown_job_is_not_found(api: httpx.AsyncClient, method: str, job_id: str) -> None:
    answer = await api.request(method, f"/jobs/{job_id}")

    assert answer.status_code == 404
    assert list(answer.json()) == ["detail"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_results_expire(settings: Settings, providers: Providers, method: str) -> None:
    changed = settings.model_copy(update={"result_ttl_seconds": 3})
    async with running_worker(changed, providers), running_api(changed) as client:
        answer = await client.post("/batch", json={"requests": [chat("x")]})
        location = answer.headers["location"]
        assert (await client.get(location)).status_code == 200

        async def expired() -> bool:
            return (await client.request(method, location)).status_code == 404

        await eventually(expired)


async def test_queued_job_does_not_expire(settings: Settings, redis: ArqRedis, keys: Keys) -> None:
    async with running_api(settings.model_copy(update={"result_ttl_seconds": 1})) as client:
        await submit(client, chat("x"))

    assert {await redis.ttl(key) for key in await stored(redis, keys)} == {-1}


# DELETE


async def test_cancel_finishes_queued_items_at_once(api: httpx.AsyncClient) -> None:
    location = await submit(api, chat("x", request_id="a"), chat("y", provider="ollama"))

    answer = await api.delete(location)

    assert answer.status_code == 200
    status = answer.json()
    assert counts(status) == ["cancelled", 0, 0, 0, 2]
    timestamps = [response.pop("timestamp") for response in status["responses"]]
    assert timestamps == [status["finished_at"]] * 2
    ended = {
        "content": "",
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "cost_usd": None,
        "latency_ms": 0.0,
        "error": "the job was cancelled",
        "error_code": "cancelled",
        "attempts": 0,
        "finish_reason": None,
        "queued_ms": 0.0,
        "retried_ms": 0.0,
        "model": "m",
    }
    assert status["responses"] == [
        {"request_id": "a", "provider": "openrouter"} | ended,
        {"request_id": None, "provider": "ollama"} | ended,
    ]
    assert await job(api, location) == answer.json()


async def test_cancel_stops_running_calls_and_keeps_finished_items(
    settings: Settings, providers: Providers, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    requests = [chat("fine"), *[chat(f"{i}", model="sim-hang") for i in range(2)], chat("queued")]
    # The lease is long, so that the worker learns of the end by the message, not by a renewal.
    changed = settings.model_copy(update={"max_concurrent_requests": 2, "lease_seconds": 60})
    async with running_worker(changed, providers):
        location = await submit(api, *requests)
        before = await reaches(api, location, "running", 1, 2, 1, 0)
        async with asyncio.timeout(30):
            cancelled = (await api.delete(location)).json()

            async def stopped() -> bool:
                return bool(simulator.stats()["in_flight"] == 0)

            await eventually(stopped)
        after = await job(api, location)

    assert counts(cancelled) == ["cancelled", 0, 0, 1, 3]
    assert cancelled["responses"][0] == before["responses"][0]
    assert [r["error_code"] for r in cancelled["responses"]] == [None, *["cancelled"] * 3]
    assert after == cancelled
    stats = simulator.stats()
    assert (stats["total"], stats["aborted"]) == (3, 2)


async def test_cancel_frees_the_slots(
    settings: Settings, providers: Providers, api: httpx.AsyncClient
) -> None:
    async with running_worker(
        settings.model_copy(update={"max_concurrent_requests": 1}), providers
    ):
        location = await submit(api, chat("x", model="sim-hang"))
        await reaches(api, location, "running", 0, 1, 0, 0)
        await api.delete(location)
        async with asyncio.timeout(30):
            answer = await api.post("/batch", json={"requests": [chat("next")]})

    assert answer.json()["successful"] == 1


@pytest.mark.usefixtures("worker")
async def test_cancel_ends_the_wait_of_a_client(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys, simulator: Simulator
) -> None:
    waiting = asyncio.create_task(
        api.post("/batch", json={"requests": [chat("x", model="sim-hang")]})
    )

    async def called() -> bool:
        return bool(simulator.stats()["in_flight"] == 1)

    await eventually(called)
    [job_key] = [key.decode() async for key in redis.scan_iter(match=f"{keys.job('')}*")]
    await api.delete(f"/jobs/{job_key.removeprefix(keys.job(''))}")
    async with asyncio.timeout(30):
        answer = await waiting

    assert answer.status_code == 200
    assert [r["error_code"] for r in answer.json()["responses"]] == ["cancelled"]


async def test_cancel_is_idempotent(api: httpx.AsyncClient) -> None:
    location = await submit(api, chat("x"))

    first = await api.delete(location)
    second = await api.delete(location)

    assert (second.status_code, second.json()) == (200, first.json())


@pytest.mark.usefixtures("worker")
async def test_cancel_does_not_change_a_completed_job(api: httpx.AsyncClient) -> None:
    location = (await api.post("/batch", json={"requests": [chat("x")]})).headers["location"]
    before = await job(api, location)

    answer = await api.delete(location)

    assert (answer.status_code, answer.json()) == (200, before)
    assert before["status"] == "completed"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("cancel", [False, True])
async def test_finished_job_keeps_no_answered_prompt_and_expires(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys, *, cancel: bool
) -> None:
    location = await submit(
        api,
        chat("my prompt"),
        chat("my prompt, retried", model="sim-status-500x1"),
        chat("my prompt", model="sim-hang" if cancel else "m", provider="ollama"),
    )
    if cancel:
        await reaches(api, location, "running", 0, 1, 2, 0)
        await api.delete(location)
    else:
        await reaches(api, location, "completed", 0, 0, 3, 0)
    job_id = location.removeprefix("/jobs/")

    kept = {kind(job_id) for kind in (keys.job, keys.results, keys.completion_order, keys.attempts)}
    kept |= {keys.payloads(job_id)} if cancel else set()
    lists = {keys.jobs_by_owner(""), keys.batches_by_owner(""), keys.job_expirations}

    async def settled() -> bool:
        return await stored(redis, keys) == kept | lists

    await eventually(settled)
    lifetimes = [await redis.ttl(key) for key in kept]
    assert all(86_300 < lifetime <= 86_400 for lifetime in lifetimes)
    prompts = await redis.hkeys(keys.payloads(job_id))  # type: ignore[misc]
    assert prompts == ([b"2"] if cancel else [])
    fields = await redis.hgetall(keys.job(job_id))  # type: ignore[misc]
    assert not [value for value in fields.values() if b"my prompt" in value]
