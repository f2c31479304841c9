"""Tests workers and APIs that are killed, stopped or disconnected from Redis under steady load."""

import asyncio
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Collection

import httpx
import pytest
from support.faults import kill, stop
from support.invariants import verify
from support.ledger import (
    Call,
    busiest,
    ledger,
    now_ms,
    open_calls,
    ports,
    unsettled,
    wait_for_calls,
)
from support.load import Load
from support.processes import Process
from support.proxy import Proxy
from support.redis_server import Server
from support.search_depth import FULL
from support.stack import Stack, Start, chat, eventually

from cli.simulator.chat import item_of
from shared.queue.leases import MAX_WORKER_LOSSES
from shared.queue.redis_keys import Keys
from shared.redis.client import connect

pytestmark = pytest.mark.chaos

LIMIT = 10
LEASE_S = 3.0
# The interval at which a worker checks its leases, plus a reserve for a machine with other work
STOP_S = LEASE_S / 15 + 2
SETTINGS = {
    "MAX_CONCURRENT_REQUESTS": str(LIMIT),
    "LEASE_SECONDS": f"{LEASE_S:g}",
    # Each worker keeps a slot free for other lanes. So three workers run at most nine calls, and
    # the fourth has calls, too.
    "WORKER_MAX_JOBS": "4",
}


def starts(calls: Collection[Call]) -> dict[str, list[float]]:
    """Returns the start times of each item's calls, in ms."""
    by_item: dict[str, list[float]] = defaultdict(list)
    for call in calls:
        by_item[call.item].append(call.start_ms)
    return by_item


@pytest.mark.parametrize("killed", [1, 4])
async def test_items_of_killed_workers_run_again(stack: Start, killed: int) -> None:
    deployment = await stack(workers=4, **SETTINGS)
    await deployment.simulate(latency_ms=200, latency_spread_ms=100)
    load = Load(deployment)
    async with load.steady():
        first = await busiest(deployment)
        others = [worker for worker in deployment.workers if worker is not first]
        hit = await kill(deployment, first, *others[: killed - 1])
        killed_at_ms = now_ms()
        for _ in range(killed):
            await deployment.add_worker()
        await load.more(20)

    calls = await verify(deployment, load, limit=LIMIT, may_repeat=hit)
    assert hit
    again = {item: times[1] - killed_at_ms for item, times in starts(calls).items() if times[1:]}
    assert again.keys() == hit
    # Without `CI_DEPTH=full`, the new workers may need seconds to start, because of other work.
    assert max(again.values()) <= (LEASE_S + (1 if FULL else 10)) * 1000


async def test_rolling_restarts_cost_nothing(stack: Start) -> None:
    deployment = await stack(workers=4, **SETTINGS | {"LEASE_SECONDS": "15"})
    await deployment.simulate(latency_ms=200, latency_spread_ms=100)
    load = Load(deployment)
    async with load.steady():
        for _ in range(3):
            for worker in deployment.workers[-4:]:
                await deployment.add_worker()
                await deployment.ready(5)
                worker.terminate()
                assert await worker.wait() == 0
        await load.more(6)

    calls = await verify(deployment, load, limit=LIMIT)
    assert len(deployment.workers) == 4 + 12
    assert len(calls) == sum(map(len, load.jobs.values()))
    attempts = [r["attempts"] for job in load.answers.values() for r in job["responses"]]
    assert set(attempts) == {1}


@pytest.mark.parametrize("latency_ms", [200, 4 * LEASE_S * 1000])
async def test_a_stopped_worker_that_continues(stack: Start, latency_ms: float) -> None:
    """A stopped process cannot close its connections. So the provider works on the open calls of
    the stopped worker, in addition to as many calls as the limit allows. When the worker continues,
    it stops its old calls at once, and starts no call whose lease has expired. Its late answers
    change nothing."""
    deployment = await stack(workers=4, **SETTINGS)
    load = Load(deployment)
    await deployment.simulate(latency_ms=200, latency_spread_ms=100)
    async with load.steady():
        await deployment.simulate(latency_ms=latency_ms)
        frozen, hit = await stop_in_calls(deployment, now_ms())
        frozen_at_ms = now_ms()
        await deployment.simulate(latency_ms=200, latency_spread_ms=100)
        await asyncio.sleep(2 * LEASE_S)  # duration of the fault
        frozen.send_signal(signal.SIGCONT)
        continued_ms = now_ms()
        await load.more(6)

    assert frozen.returncode is None
    calls = await verify(deployment, load, limit=LIMIT, may_repeat=hit, beyond_limit=hit)
    late = [c for c in calls if c.item in hit and c.start_ms < frozen_at_ms and c.end_ms]
    assert all((call.end_ms or 0) < continued_ms + STOP_S * 1000 for call in late)


async def stop_in_calls(stack: Stack, since_ms: float) -> tuple[Process, set[str]]:
    """Stops a worker that is running items whose calls have started after `since_ms`.

    Returns the worker and the items that it is running. If the calls have ended before the worker
    has stopped, the worker continues, and another one is stopped. Its items are returned, too,
    because their leases may have expired on a busy machine.
    """
    hit = set[str]()
    while True:
        worker = await busiest(stack)
        stop(worker)
        running = await unsettled(stack, worker)
        hit |= running
        if running & {c.item for c in await ledger(stack) if c.start_ms > since_ms}:
            return worker, hit
        worker.send_signal(signal.SIGCONT)


async def called_since(stack: Stack, worker: Process, since_ms: float) -> set[str]:
    """Returns the items for which the worker has open calls that have started after `since_ms`."""
    late = {c.item for c in await ledger(stack) if c.start_ms > since_ms}
    return late & await open_calls(stack, worker)


@pytest.fixture
async def proxied(server: Server, keys: Keys) -> AsyncIterator[tuple[Stack, Proxy]]:
    """Starts four workers. The last worker reaches Redis through a proxy."""
    proxy = Proxy(server.url.removeprefix("unix://"))
    await proxy.start()
    deployment = Stack(server.url, keys, SETTINGS)
    try:
        await deployment.start(workers=3)
        await deployment.add_worker(REDIS_URL=proxy.url)
        await deployment.ready(4)
        yield deployment, proxy
    finally:
        await deployment.stop()
        await proxy.stop()


async def test_a_short_cut_off_from_redis_costs_nothing(proxied: tuple[Stack, Proxy]) -> None:
    """Calls continue during the fault. The worker keeps answers until it can settle them."""
    deployment, proxy = proxied
    await deployment.simulate(latency_ms=600, latency_spread_ms=400)
    load = Load(deployment)
    async with load.steady():
        while True:
            await wait_for_calls(deployment, deployment.workers[-1])
            proxy.cut()
            if await open_calls(deployment, deployment.workers[-1]):
                break
            proxy.mend()  # the calls had ended before
        await asyncio.sleep(0.5)  # duration of the fault
        proxy.mend()
        await load.more(6)

    await verify(deployment, load, limit=LIMIT)


async def test_a_worker_that_loses_redis_stops_its_calls_in_time(
    proxied: tuple[Stack, Proxy],
) -> None:
    deployment, proxy = proxied
    await deployment.simulate(latency_ms=200)
    load = Load(deployment)
    async with load.steady():
        await deployment.simulate(latency_ms=4 * LEASE_S * 1000)
        worker, since_ms = deployment.workers[-1], now_ms()
        called = set[str]()

        async def is_called() -> bool:
            called.update(await called_since(deployment, worker, since_ms))
            return bool(called)

        await eventually(is_called)
        proxy.cut()
        hit = await unsettled(deployment, worker)
        await deployment.simulate(latency_ms=200)
        await asyncio.sleep(2 * LEASE_S)  # duration of the fault
        proxy.mend()
        await load.more(6)

    assert worker.returncode is None
    calls = await verify(deployment, load, limit=LIMIT, may_repeat=hit)
    for item in called:
        stopped, again = [call for call in calls if call.item == item]
        assert stopped.outcome == "aborted"
        assert stopped.end_ms is not None
        assert stopped.end_ms <= again.start_ms


async def test_jobs_of_a_killed_api_can_be_fetched(stack: Start) -> None:
    deployment = await stack(workers=4, **SETTINGS)
    await deployment.simulate(latency_ms=300)
    batches = [[chat(f"{b}-{i}") for i in range(20)] for b in range(3)]
    waiting = [asyncio.create_task(deployment.batch(batch)) for batch in batches]
    await deployment.in_flight(LIMIT)

    deployment.api_process.kill()
    gone = await asyncio.gather(*waiting, return_exceptions=True)
    await deployment.start_api()
    await deployment.ready(4)

    assert all(isinstance(error, httpx.TransportError) for error in gone)
    load = Load(deployment)
    for job_id in await job_ids(deployment):
        await load.adopt(job_id)
    assert sorted(load.jobs.values()) == [[f"{b}-{i}" for i in range(20)] for b in range(3)]
    await verify(deployment, load, limit=LIMIT)


async def test_an_item_that_kills_its_worker_every_time(stack: Start) -> None:
    """Each worker that runs the item is killed when its call for the item reaches the provider."""
    deployment = await stack(workers=3, **SETTINGS)
    await deployment.simulate(latency_ms=200, latency_spread_ms=100)
    load, poisoned, neighbours = Load(deployment), "poisoned", [f"beside {i}" for i in range(9)]
    hit = set[str]()
    async with load.steady():
        requests = [chat(poisoned, model="sim-hang"), *map(chat, neighbours)]
        accepted = (await deployment.batch(requests, params={"mode": "async"})).json()
        for _ in range(MAX_WORKER_LOSSES):
            worker = await caller_of(deployment, poisoned)
            hit |= await kill(deployment, worker)
            await deployment.add_worker()
        await load.adopt(accepted["job_id"], [poisoned, *neighbours])
        await load.more(6)

    calls = await verify(deployment, load, limit=LIMIT, may_repeat=hit, failed={poisoned})
    assert len([call for call in calls if call.item == item_of(poisoned)]) == MAX_WORKER_LOSSES
    [response, *_] = load.answers[accepted["job_id"]]["responses"]
    assert (response["error_code"], response["content"]) == ("worker_lost", "")


async def caller_of(stack: Stack, content: str) -> Process:
    """Waits until a worker has an open call for this request. Returns the worker."""
    found: list[Process] = []

    async def calling() -> bool:
        item = item_of(content)
        clients = {c.client for c in await ledger(stack) if c.item == item and c.end_ms is None}
        alive = [worker for worker in stack.workers if worker.returncode is None]
        found.extend(worker for worker in alive if clients & ports(worker))
        return bool(found)

    await eventually(calling)
    return found[0]


async def job_ids(stack: Stack) -> list[str]:
    redis = connect(stack.redis_url)
    prefix = stack.keys.job("")
    try:
        return [key.decode().removeprefix(prefix) async for key in redis.scan_iter(f"{prefix}*")]
    finally:
        await redis.aclose()
