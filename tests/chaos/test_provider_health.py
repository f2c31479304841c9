"""Tests that a fault of a provider costs no item, and how few calls are made during the fault.

Outages are short by default. With `CI_DEPTH=full` they are as long as real ones.
"""

import asyncio
import signal
from typing import Any

import httpx
import pytest
from support.faults import kill, stop
from support.invariants import verify
from support.jobs import job, results, wait_completed
from support.ledger import ledger, now_ms, peak, unsettled, wait_for_calls
from support.load import Load
from support.outage import (
    BEGIN_MS,
    check_all_answered,
    check_not_delayed,
    check_probes,
    check_recovery,
    submitted,
    time_alone_ms,
    wait_answered,
)
from support.proxy import Proxy
from support.redis_server import Server, server_with_clock
from support.search_depth import FULL
from support.stack import Stack, Start, eventually, free_port

from shared.queue.redis_keys import Keys

pytestmark = pytest.mark.chaos

LIMIT = 10
LATENCY_MS = 20
SETTINGS = {
    "MAX_CONCURRENT_REQUESTS": str(LIMIT),
    "LEASE_SECONDS": "15",
    "REQUEST_TIMEOUT": "3",
    # With one retry, an item that fails twice is lost: an outage may count for nobody.
    "MAX_RETRIES": "1",
}
ITEMS = 3000 if FULL else 1500
QUOTA = {
    "error": {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
}
REFUSALS: dict[str, dict[str, Any]] = {
    "unavailable": {"status": 503},
    "unauthorized": {"status": 401},
    "quota": {"status": 429, "body": QUOTA},
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_an_outage_costs_no_item(stack: Start, refusal: str) -> None:
    seconds = 6 if FULL else 2.5
    contents = [f"{n}" for n in range(ITEMS)]
    deployment = await stack(workers=2, **SETTINGS)
    await deployment.simulate(latency_ms=LATENCY_MS)
    location = await submitted(deployment, contents)
    await wait_answered(deployment, location, ITEMS // 3)
    await deployment.simulate(latency_ms=LATENCY_MS, outage=REFUSALS[refusal])
    await asyncio.sleep(seconds)  # duration of the fault
    await deployment.simulate(latency_ms=LATENCY_MS)
    repaired_ms = now_ms()

    await check_all_answered(deployment, location, contents)
    calls = await ledger(deployment)
    failed = [call for call in calls if call.outcome == REFUSALS[refusal]["status"]]
    assert check_probes(failed, seconds=seconds, limit=LIMIT)
    check_recovery(calls, repaired_ms, limit=LIMIT)
    assert peak(calls) <= LIMIT


@pytest.mark.parametrize("seconds", [10, 60] if FULL else [2.5])
async def test_a_killed_provider_costs_no_item(stack: Start, seconds: float) -> None:
    contents = [f"{n}" for n in range(ITEMS)]
    metrics_ports = [str(free_port()) for _ in range(2)]
    deployment = await stack(workers=0, **SETTINGS)
    for port in metrics_ports:
        await deployment.add_worker(WORKER_METRICS_PORT=port)
    await deployment.ready(2)
    await deployment.simulate(latency_ms=LATENCY_MS)
    location = await submitted(deployment, contents)
    await wait_answered(deployment, location, ITEMS // 3)
    deployment.simulator_process.kill()
    await asyncio.sleep(seconds)  # duration of the fault
    await deployment.restart_simulator(latency_ms=LATENCY_MS)
    repaired_ms = now_ms()

    await check_all_answered(deployment, location, contents)
    calls = await ledger(deployment)
    check_recovery(calls, repaired_ms, limit=LIMIT)
    assert peak(calls) <= LIMIT
    failed = await failed_calls(*metrics_ports)
    assert 0 < failed <= 2 * LIMIT + 20


async def failed_calls(*metrics_ports: str) -> int:
    """Returns the number of calls that failed with a connection error, from workers' metrics."""
    name, failed = "gen_ai_client_operation_duration_seconds_count", 0.0
    async with httpx.AsyncClient() as client:
        for port in metrics_ports:
            for line in (await client.get(f"http://127.0.0.1:{port}/metrics")).text.splitlines():
                if line.startswith(name) and 'error_type="connection_error"' in line:
                    failed += float(line.split()[-1])
    return int(failed)


@pytest.mark.parametrize("poisoned", [1, 10])
async def test_poisoned_requests_fail_alone(stack: Start, poisoned: int) -> None:
    """Each fails after MAX_RETRIES, and the others take as long as without them."""
    latency_ms, items = 100, 1000 if FULL else 500
    contents = [f"{n}" for n in range(items)]
    bad = {contents[17 + n * 43] for n in range(poisoned)}
    contents = [f"POISON {text}" if text in bad else text for text in contents]
    deployment = await stack(workers=2, **SETTINGS)
    await deployment.simulate(latency_ms=latency_ms)
    alone_ms = await time_alone_ms(deployment, contents)
    await deployment.simulator.post("/_sim/reset")
    await deployment.simulate(latency_ms=latency_ms, poison="POISON")
    location = await submitted(deployment, contents)
    await wait_completed(deployment.api, location)

    found = await results(deployment.api, location)
    failed = [r for text, r in zip(contents, found, strict=True) if "POISON" in text]
    assert sum(bool(result["error"]) for result in found) == poisoned
    assert {(r["error_code"], r["attempts"]) for r in failed} == {("provider_error", 2)}
    calls = await ledger(deployment)
    assert len(calls) == items + poisoned
    good = [call for call in calls if call.outcome == 200]
    check_not_delayed(good, alone_ms)


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({"retry-after-ms": "2500"}, 2500),
        ({"Retry-After": "2"}, 2000),
        ({"Retry-After": "0"}, 0),
    ],
)
async def test_no_call_begins_before_its_time(
    stack: Start, headers: dict[str, str], wait_ms: float
) -> None:
    contents = [f"{n}" for n in range(30)]
    deployment = await stack(workers=2, **SETTINGS)
    refusal = {"error": {"code": 429, "message": "too many"}}
    outage = {"status": 429, "body": refusal, "headers": headers, "seconds": 2.2}
    await deployment.simulate(latency_ms=LATENCY_MS, outage=outage)
    location = await submitted(deployment, contents)

    await check_all_answered(deployment, location, contents)
    calls = await ledger(deployment)
    refused = [call for call in calls if call.outcome == 429]
    begin_ms = min(call.start_ms for call in calls)
    first_end_ms = max(c.end_ms or 0 for c in refused if c.start_ms < begin_ms + BEGIN_MS)
    later = [call for call in calls if call.start_ms >= begin_ms + BEGIN_MS]
    assert min(call.start_ms for call in later) >= first_end_ms + wait_ms - 20
    assert len(refused) <= 2 * LIMIT + 20
    assert len(calls) == len(contents) + len(refused)


async def test_windows_are_kept_by_their_resets(stack: Start) -> None:
    """The provider says only when its window ends, in epoch milliseconds."""
    windows, seconds = (6, 8) if FULL else (3, 3)
    contents = [f"{n}" for n in range(2 * windows)]
    deployment = await stack(workers=2, **SETTINGS)
    await deployment.simulate(latency_ms=LATENCY_MS, window={"calls": 2, "seconds": seconds})
    location = await submitted(deployment, contents)

    await check_all_answered(deployment, location, contents)
    calls = await ledger(deployment)
    first_ms = min(call.start_ms for call in calls)
    wall_ms = max(call.end_ms or 0 for call in calls) - first_ms
    ideal_ms = (windows - 1) * seconds * 1000
    assert wall_ms <= ideal_ms * (1.05 if FULL else 2)
    late_ms = BEGIN_MS if FULL else 1500  # on a machine with other work, calls may begin later
    starts_ms = sorted(call.start_ms - first_ms for call in calls)
    assert not [ms for ms in starts_ms if late_ms < ms % (seconds * 1000) < seconds * 1000 - 20]


async def test_a_cold_model_is_loaded(stack: Start) -> None:
    """A load takes longer than the time-out, and is aborted if its client hangs up."""
    load_s, time_out_s, items = (5.0, 3, 800) if FULL else (1.8, 1.2, 300)
    latency_ms, contents = 200, [f"{n}" for n in range(items)]
    settings = {**SETTINGS, "REQUEST_TIMEOUT": str(time_out_s)}
    deployment = await stack(workers=2, **settings)
    await deployment.simulate(latency_ms=latency_ms, load_s=load_s)
    location = await submitted(deployment, contents)

    await check_all_answered(deployment, location, contents)
    assert (await deployment.stats())["aborted_loads"] <= 3
    calls = await ledger(deployment)
    wall_ms = max(c.end_ms or 0 for c in calls) - min(c.start_ms for c in calls)
    ideal_ms = load_s * 1000 + items / LIMIT * latency_ms
    assert wall_ms <= (1.25 if FULL else 3) * ideal_ms


async def test_a_server_that_works_on_one_call_at_a_time(stack: Start) -> None:
    """With ten calls at once, the provider answers six of them within the time-out."""
    latency_ms, time_out_s, items = (500, 3, 60) if FULL else (250, 1.5, 40)
    contents = [f"{n}" for n in range(items)]
    settings = {"REQUEST_TIMEOUT": str(time_out_s), "MAX_RETRIES": "3"}
    deployment = await stack(workers=2, **SETTINGS | settings)
    await deployment.simulate(latency_ms=latency_ms, slots=1)
    location = await submitted(deployment, contents)

    await check_all_answered(deployment, location, contents)
    calls = await ledger(deployment)
    wall_ms = max(c.end_ms or 0 for c in calls) - min(c.start_ms for c in calls)
    if FULL:
        assert wall_ms <= items * latency_ms * 1.25


@pytest.mark.parametrize("provider", ["openrouter", "ollama"])
async def test_a_limited_model_delays_no_other_model(stack: Start, provider: str) -> None:
    """OpenRouter limits the account, and Ollama the model: a pause covers what it must."""
    latency_ms, good = 50, [f"{n}" for n in range(500)]
    limited = [f"limited {n}" for n in range(10)]
    deployment = await stack(workers=2, **SETTINGS)
    outage = {"status": 429, "headers": {"Retry-After": "2"}}
    await deployment.simulate(latency_ms=latency_ms)
    alone_ms = await time_alone_ms(deployment, good, provider=provider)
    await deployment.simulator.post("/_sim/reset")
    await deployment.simulate(
        latency_ms=latency_ms, by_model={"limited": {"latency_ms": latency_ms, "outage": outage}}
    )
    behind = await submitted(deployment, limited, model="limited", provider=provider)
    location = await submitted(deployment, good, provider=provider)

    await check_all_answered(deployment, location, good)
    calls = [call for call in await ledger(deployment) if call.model == "m"]
    assert (await job(deployment.api, behind))["successful"] == 0
    await deployment.simulate()
    await check_all_answered(deployment, behind, limited)
    check_not_delayed(calls, alone_ms)


async def refused(stack: Stack, count: int) -> None:
    """Waits until the provider has refused so many calls, and has no open call."""

    async def enough() -> bool:
        stats = await stack.stats()
        failed: int = stats["total"] - stats["answers"].get("200", 0)
        return stats["in_flight"] == 0 and failed >= count

    await eventually(enough)


async def settled(stack: Stack, location: str) -> None:
    """Waits until no item of the job is running."""

    async def none_is_running() -> bool:
        return bool((await job(stack.api, location))["running"] == 0)

    await eventually(none_is_running)


async def test_a_wait_of_an_hour(keys: Keys) -> None:
    contents = [f"{n}" for n in range(30)]
    async with server_with_clock() as (server, clock):
        # After a jump of the clock, workers count as lost until they renew their leases.
        deployment = Stack(server.url, keys, {**SETTINGS, "LEASE_SECONDS": "3"})
        try:
            await deployment.start(workers=2)
            outage = {"status": 429, "headers": {"Retry-After": "3600"}}
            await deployment.simulate(outage=outage)
            location = await submitted(deployment, contents)
            await refused(deployment, 1)
            await settled(deployment, location)
            await clock.set(server, 3540)
            await deployment.ready(2)
            count = (await deployment.stats())["total"]
            await deployment.simulate()
            await asyncio.sleep(6.5)  # longer than a worker waits until its next round
            assert (await deployment.stats())["total"] == count <= 2 * LIMIT
            await clock.set(server, 3602)
            await check_all_answered(deployment, location, contents)
        finally:
            await deployment.stop()


async def test_an_outage_of_ten_minutes(keys: Keys) -> None:
    """Redis's clock passes three or ten minutes in seconds. Each jump ends the wait for a probe."""
    contents = [f"{n}" for n in range(60)]
    async with server_with_clock() as (server, clock):
        deployment = Stack(server.url, keys, {**SETTINGS, "LEASE_SECONDS": "3"})
        try:
            await deployment.start(workers=2)
            await deployment.simulate(outage={"status": 503})
            location = await submitted(deployment, contents)
            passed_s, calls = 0.0, 0
            while passed_s < (600 if FULL else 180):
                await refused(deployment, calls + 1)
                await settled(deployment, location)
                calls = (await deployment.stats())["total"]
                passed_s += 61 if passed_s else 31
                await clock.set(server, passed_s)
            await deployment.simulate()
            await clock.set(server, passed_s + 61)
            await check_all_answered(deployment, location, contents)
            assert len(await ledger(deployment)) - len(contents) <= 2 * LIMIT + 30
        finally:
            await deployment.stop()


async def test_workers_that_are_lost_during_an_outage(server: Server, keys: Keys) -> None:
    """During the outage one worker of four is killed, one stopped and one cut off from Redis.
    Nothing is lost, the limit holds, and no more than one call at a time is made meanwhile."""
    proxy = Proxy(server.url.removeprefix("unix://"))
    await proxy.start()
    # Without the limit, one worker could run all calls.
    deployment = Stack(server.url, keys, {**SETTINGS, "LEASE_SECONDS": "3", "WORKER_MAX_JOBS": "4"})
    load = Load(deployment)
    try:
        await deployment.start(workers=3)
        await deployment.add_worker(REDIS_URL=proxy.url)
        await deployment.ready(4)
        killed, frozen, _, cut_off = deployment.workers
        await deployment.simulate(latency_ms=200)
        async with load.steady():
            await wait_for_calls(deployment, cut_off)
            await deployment.simulate(latency_ms=200, outage={"status": 503})
            hit = await kill(deployment, killed)
            stop(frozen)
            hit |= await unsettled(deployment, frozen)
            proxy.cut()
            hit |= await unsettled(deployment, cut_off)
            await asyncio.sleep(4)  # duration of the fault; leases expire in this time
            proxy.mend()
            frozen.send_signal(signal.SIGCONT)
            await deployment.simulate(latency_ms=200)
            await load.more(12)
        calls = await verify(deployment, load, limit=LIMIT, may_repeat=hit, beyond_limit=hit)
        check_probes([call for call in calls if call.outcome == 503], seconds=4, limit=LIMIT)
    finally:
        await deployment.stop()
        await proxy.stop()
