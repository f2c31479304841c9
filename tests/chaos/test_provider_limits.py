"""Tests that workers use the limits of a provider, and do not exceed them, while workers die."""

import asyncio
import signal
from collections import Counter
from http import HTTPStatus
from itertools import pairwise
from time import time

import pytest
from redis.asyncio import Redis
from support.faults import kill, stop
from support.ledger import ledger, now_ms, wait_for_calls
from support.outage import check_all_answered, submitted, wait_answered, wall_ms
from support.prompts import prompts
from support.proxy import Proxy
from support.redis_server import Server
from support.search_depth import FULL
from support.stack import Stack, Start, eventually

from cli.simulator.chat import item_of
from shared.queue.operator_commands import Operator
from shared.queue.redis_keys import Keys

pytestmark = pytest.mark.chaos

KILLED = 2  # workers
LATE_MS = 200 if FULL else 1000  # calls may begin that were claimed before a limit was lowered


@pytest.mark.parametrize(("rpm", "tpm"), [(600, 90_000), (60, 90_000)] if FULL else [(600, 90_000)])
async def test_a_budget_is_used_and_not_exceeded(stack: Start, rpm: int, tpm: int) -> None:
    items = 50 if not FULL else 300 if rpm == 600 else rpm  # a minute with CI_DEPTH=full
    deployment = await stack(
        workers=4,
        LEASE_SECONDS="3",
        MAX_CONCURRENT_REQUESTS="100",
        OPENROUTER_RPM=str(rpm),
        OPENROUTER_TPM=str(tpm),
    )
    budget = {"rpm": rpm, "tpm": tpm, "charge_refused": True}
    await deployment.simulate(
        latency_ms=200, latency_p95_ms=600, tokenizer="scripts", budget=budget
    )
    contents = prompts(items)
    location = await submitted(deployment, contents)
    for quarter in (1, 2, 3, 4):
        await wait_answered(deployment, location, len(contents) * quarter // 4)
        if quarter <= KILLED:
            await kill(deployment, deployment.workers[quarter])

    await check_all_answered(deployment, location, contents)
    calls = sorted(await ledger(deployment), key=lambda call: call.start_ms)
    refused = [call for call in calls[10:] if call.outcome == HTTPStatus.TOO_MANY_REQUESTS]
    assert len(refused) <= len(calls) / 1000
    [used] = (await deployment.stats())["budgets"]
    shares = [used[name]["admitted"] / used[name]["possible"] for name in ("requests", "tokens")]
    # A short run does not use what the bucket has at its start, and another program may delay it.
    assert max(shares) >= (0.97 if FULL else 0.5), shares


async def test_lost_workers_hold_no_part_of_a_budget(server: Server, keys: Keys) -> None:
    """One worker of four is killed, one stopped and one cut off from Redis, and two come back."""
    proxy = Proxy(server.url.removeprefix("unix://"))
    await proxy.start()
    rates = {"OPENROUTER_RPM": "600", "OPENROUTER_TPM": "90000"}
    deployment = Stack(server.url, keys, {"LEASE_SECONDS": "3", "WORKER_MAX_JOBS": "3", **rates})
    try:
        await deployment.start(workers=3)
        await deployment.add_worker(REDIS_URL=proxy.url)
        await deployment.ready(4)
        killed, frozen, _, cut_off = deployment.workers
        budget = {"rpm": 600, "tpm": 90_000, "charge_refused": True}
        await deployment.simulate(latency_ms=600, tokenizer="scripts", budget=budget)
        contents = prompts(60)
        location = await submitted(deployment, contents)
        await wait_for_calls(deployment, cut_off)
        await kill(deployment, killed)
        stop(frozen)
        proxy.cut()
        await asyncio.sleep(4)  # duration of the fault; leases expire in this time
        proxy.mend()
        frozen.send_signal(signal.SIGCONT)

        await check_all_answered(deployment, location, contents)
        calls = sorted(await ledger(deployment), key=lambda call: call.start_ms)
        assert not [call for call in calls[10:] if call.outcome == HTTPStatus.TOO_MANY_REQUESTS]

        async def no_call_is_counted() -> bool:
            found = [key async for key in server.client.scan_iter(keys.running("openrouter", "*"))]
            return not found

        await eventually(no_call_is_counted)
        async for key in server.client.scan_iter(keys.budget("openrouter", "*")):
            times = await server.client.hmget(key, ["r", "t"])  # type: ignore[misc]
            # The calls that were lost stay charged, and time repays them like all others.
            assert all(float(time_ms or 0) < (time() + 5) * 1000 for time_ms in times)
    finally:
        await deployment.stop()
        await proxy.stop()


@pytest.mark.skipif(not FULL, reason="only with CI_DEPTH=full; test_worker_share has a short case")
async def test_four_workers_share_a_large_job(server: Server, keys: Keys) -> None:
    """Each worker has its own key, by which the provider counts its calls."""
    contents = [f"{number}" for number in range(5000)]
    deployment = Stack(server.url, keys, {"MAX_CONCURRENT_REQUESTS": "40"})
    names = [f"worker{number}" for number in range(4)]
    try:
        await deployment.start(workers=0)
        workers = [await deployment.add_worker(OPENROUTER_API_KEY=name) for name in names]
        await deployment.ready(4)
        await deployment.simulate(latency_ms=100)
        walls_ms = []
        for job in ("by four", "by one"):
            of_job = [f"{job} {content}" for content in contents]
            await check_all_answered(deployment, await submitted(deployment, of_job), of_job)
            items = set(map(item_of, of_job))
            calls = [call for call in await ledger(deployment) if call.item in items]
            walls_ms.append(wall_ms(calls))
            if job == "by four":
                counts = Counter(call.key for call in calls)
                for worker in workers[1:]:
                    await kill(deployment, worker)
        print(f"wall with four workers {walls_ms[0]:.0f} ms, with one {walls_ms[1]:.0f} ms")  # noqa: T201 — the wall is for a reader
        assert counts.keys() == set(names)
        assert max(counts.values()) <= 0.4 * len(contents)
    finally:
        await deployment.stop()


async def test_an_adaptive_limit_finds_the_capacity(stack: Start) -> None:
    """The provider takes 40 calls at a time, then 12, then 80, and says so only by refusing."""
    phase_s, latency_ms = (100, 2000) if FULL else (5, 400)
    capacities = (40, 12, 80)
    deployment = await stack(
        workers=2,
        MAX_CONCURRENT_REQUESTS="200",
        OPENROUTER_ADAPTIVE="true",
        REQUEST_TIMEOUT="30",
    )
    behaviour = {"latency_ms": latency_ms, "latency_p95_ms": latency_ms * 2, "limit_delay_ms": 50}
    await deployment.simulate(**behaviour, limit=capacities[0])
    items = int(sum(capacities) * phase_s * 1000 / latency_ms) + 200
    location = await submitted(deployment, [f"{n}" for n in range(items)])
    await wait_answered(deployment, location, 1)
    begins_ms = []
    for capacity in capacities:
        await deployment.simulate(**behaviour, limit=capacity)
        begins_ms.append(now_ms())
        await asyncio.sleep(phase_s)  # duration of the capacity
    end_ms = now_ms()
    await deployment.api.delete(location)

    calls = [call for call in await ledger(deployment) if call.end_ms and call.start_ms < end_ms]
    answers = [call for call in calls if call.outcome == HTTPStatus.OK]
    refusals = [call for call in calls if call.outcome == HTTPStatus.TOO_MANY_REQUESTS]
    begins_ms.append(end_ms)
    possible_ms = sum(
        capacity * (end - begin)
        for capacity, (begin, end) in zip(capacities, pairwise(begins_ms), strict=True)
    )
    used_ms = sum((call.end_ms or 0) - call.start_ms for call in answers)

    assert used_ms / possible_ms >= (0.78 if FULL else 0.1)
    assert len(refusals) / len(answers) <= (0.02 if FULL else 0.2)


async def test_a_server_that_works_on_one_call_at_a_time_answers_everything(stack: Start) -> None:
    items = 60 if FULL else 20
    deployment = await stack(
        workers=2,
        MAX_CONCURRENT_REQUESTS="10",
        REQUEST_TIMEOUT="3" if FULL else "1.5",
        MAX_RETRIES="2",
    )
    await deployment.simulate(latency_ms=500 if FULL else 250, slots=1)
    contents = [f"{n}" for n in range(items)]
    location = await submitted(deployment, contents)

    await check_all_answered(deployment, location, contents)
    calls = await ledger(deployment)
    assert (
        sum(call.outcome != HTTPStatus.OK for call in calls) <= 10
    )  # the calls that were too many


async def test_limits_that_change_under_load(stack: Start, redis: Redis, keys: Keys) -> None:
    """The limit is 10, then 3, then 30. No call begins while as many calls run as count then."""
    latency_ms = 300
    deployment = await stack(workers=2, MAX_CONCURRENT_REQUESTS="10")
    await deployment.simulate(latency_ms=latency_ms)
    contents = [f"{n}" for n in range(300)]
    location = await submitted(deployment, contents)
    operator = Operator(redis, keys)
    changes_ms = []
    for limit, answered in ((3, 40), (30, 60)):
        await wait_answered(deployment, location, answered)
        changes_ms.append(now_ms())
        await operator.set_limits("openrouter", {"concurrency": limit})

    await check_all_answered(deployment, location, contents)
    calls = sorted(await ledger(deployment), key=lambda call: call.start_ms)
    lowered_ms, raised_ms = changes_ms
    ends_ms = [call.end_ms or 0 for call in calls]
    for number, call in enumerate(calls):
        running = sum(end > call.start_ms for end in ends_ms[:number])
        if call.start_ms < lowered_ms:
            assert running < 10
        elif lowered_ms + LATE_MS < call.start_ms < raised_ms:
            assert running < 3
        else:
            assert running < 30
    raised = [call for call in calls if call.start_ms >= raised_ms]
    # With the lower limit, 20 calls begin in 2 s.
    soon = [call for call in raised if call.start_ms < raised_ms + (100 if FULL else 2000)]
    assert len(soon) >= 30 - 3
