"""Tests batches with real processes: API, workers, Valkey and the simulator."""

import asyncio
import os
import signal
import time
from typing import Any

from support.stack import Start, chat, eventually


async def test_mixed_batch_comes_back_in_order(stack: Start) -> None:
    deployment = await stack(workers=2)
    providers = ["openrouter", "ollama"]
    requests = [chat(f"question {i}", provider=providers[i % 2]) for i in range(100)]

    answer = await deployment.batch(requests)

    assert answer.status_code == 200
    body = answer.json()
    assert [r["content"] for r in body["responses"]] == [f"echo: question {i}" for i in range(100)]
    assert (body["total_requests"], body["successful"], body["failed"]) == (100, 100, 0)
    assert (await deployment.stats())["total"] == 100


async def test_limit_holds_over_four_workers_at_full_speed(stack: Start) -> None:
    deployment = await stack(workers=4, MAX_CONCURRENT_REQUESTS="10")
    await deployment.simulate(latency_ms=50)
    batches = [[chat(f"{b}-{i}") for i in range(100)] for b in range(4)]

    answers = await asyncio.gather(*(deployment.batch(batch) for batch in batches))

    assert [answer.json()["successful"] for answer in answers] == [100] * 4
    stats = await deployment.stats()
    assert stats["peak"] == 10
    assert stats["total"] == 400


async def test_items_of_a_killed_worker_run_again(stack: Start) -> None:
    # A worker has 10 slots and keeps two of them free for the other lanes, so it runs eight items.
    deployment = await stack(
        workers=2, MAX_CONCURRENT_REQUESTS="16", WORKER_MAX_JOBS="10", LEASE_SECONDS="3"
    )
    await deployment.simulate(latency_ms=3000)  # no call ends before the worker is killed
    batch = asyncio.create_task(deployment.batch([chat(f"item {i}") for i in range(40)]))
    await deployment.in_flight(16)

    deployment.workers[0].kill()
    killed_at_ms = time.monotonic() * 1000
    await deployment.simulate(latency_ms=300)
    body = (await batch).json()

    assert [r["content"] for r in body["responses"]] == [f"echo: item {i}" for i in range(40)]
    calls: dict[str, list[float]] = {}
    for call in (await deployment.simulator.get("/_sim/ledger")).json():
        calls.setdefault(call["item"], []).append(call["start_ms"])
    again_ms = [starts[1] - killed_at_ms for starts in calls.values() if len(starts) > 1]
    assert len(again_ms) == 8
    assert max(again_ms) <= 6000  # twice the lease
    assert max(len(starts) for starts in calls.values()) == 2
    assert (await deployment.stats())["peak"] == 16


async def test_sigterm_lets_calls_finish_and_costs_nothing(stack: Start) -> None:
    deployment = await stack(workers=2, MAX_CONCURRENT_REQUESTS="10")
    await deployment.simulate(latency_ms=300)
    batch = asyncio.create_task(deployment.batch([chat(f"item {i}") for i in range(60)]))
    await deployment.in_flight(10)

    deployment.workers[0].terminate()
    exit_code = await deployment.workers[0].wait()
    body = (await batch).json()

    assert exit_code == 0
    assert body["successful"] == 60
    assert {r["attempts"] for r in body["responses"]} == {1}
    assert (await deployment.stats())["total"] == 60


async def test_saturated_provider_does_not_delay_another(stack: Start) -> None:
    deployment = await stack(workers=1, MAX_CONCURRENT_REQUESTS="2")
    slow: dict[str, Any] = {"latency_ms": 2000}
    await deployment.simulate(by_dialect={"openai": slow})
    saturating = asyncio.create_task(deployment.batch([chat(f"slow {i}") for i in range(8)]))
    await deployment.in_flight(2)

    answer = await deployment.batch([chat(f"fast {i}", provider="ollama") for i in range(10)])

    assert answer.json()["successful"] == 10
    assert not saturating.done()
    saturating.cancel()


async def test_a_stopped_worker_changes_nothing_when_it_continues(stack: Start) -> None:
    deployment = await stack(workers=2, MAX_CONCURRENT_REQUESTS="4")
    await deployment.simulate(latency_ms=1500)
    batch = asyncio.create_task(deployment.batch([chat(f"item {i}") for i in range(4)]))
    await deployment.in_flight(4)

    for worker in deployment.workers:
        os.kill(worker.pid, signal.SIGSTOP)
    third = await deployment.add_worker()
    body = (await batch).json()
    for worker in deployment.workers[:2]:
        os.kill(worker.pid, signal.SIGCONT)

    async def idle() -> bool:
        return bool((await deployment.stats())["in_flight"] == 0)

    await eventually(idle)
    assert third.returncode is None
    assert body["successful"] == 4
    job = (await deployment.api.get(f"/jobs/{body['job_id']}")).json()
    assert job["responses"] == body["responses"]


async def test_an_api_that_is_told_to_stop_answers_clients_that_wait(stack: Start) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=60_000)
    waiting = asyncio.create_task(deployment.batch([chat("one")]))
    await deployment.in_flight(1)

    deployment.api_process.terminate()
    answer = await waiting

    assert answer.status_code == 202
    assert answer.json()["status"] == "running"
    assert answer.headers["Location"] == f"/jobs/{answer.json()['job_id']}"
    assert await deployment.api_process.wait() in {0, -signal.SIGTERM}
