"""Tests faults of Redis under steady load: killed, stopped, full, read-only, connections closed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise

import pytest
from support.invariants import verify
from support.ledger import STORE_MS, Call, calls_by_item, ledger, now_ms, open_during
from support.load import Load
from support.redis_server import Server
from support.stack import Stack, chat, eventually

from cli.simulator.chat import item_of
from shared.queue.redis_keys import Keys

pytestmark = pytest.mark.chaos

LIMIT = 10
LEASE_S = 3.0
SHORT_S = 0.5
LONG_LEASE_S = 15.0  # a short fault is shorter than the remaining time of any such lease
LONG_S = 5.0  # duration of a long fault, longer than a lease
SETTINGS = {
    "MAX_CONCURRENT_REQUESTS": str(LIMIT),
    # Each worker keeps a slot free for other lanes. The four workers share the ten calls.
    "WORKER_MAX_JOBS": "4",
}

Fault = Callable[[Server], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def killed(server: Server) -> AsyncIterator[None]:
    await server.kill()
    yield
    await server.start()


@asynccontextmanager
async def frozen(server: Server) -> AsyncIterator[None]:
    server.freeze()
    yield
    server.thaw()


@asynccontextmanager
async def read_only(server: Server) -> AsyncIterator[None]:
    await server.command("REPLICAOF", "127.0.0.1", "1")
    yield
    await server.command("REPLICAOF", "NO", "ONE")


@pytest.fixture
async def deployment(
    server: Server, keys: Keys, request: pytest.FixtureRequest
) -> AsyncIterator[Stack]:
    """Starts a deployment with long leases; with LEASE_S if that is the fixture's parameter."""
    lease_s = getattr(request, "param", LONG_LEASE_S)
    deployment = Stack(server.url, keys, SETTINGS | {"LEASE_SECONDS": f"{lease_s:g}"})
    try:
        await deployment.start(workers=4)
        await deployment.simulate(latency_ms=200, latency_spread_ms=100)
        yield deployment
    finally:
        await deployment.stop()


def assert_no_process_ended(stack: Stack) -> None:
    assert {process.returncode for process in (*stack.workers, stack.api_process)} == {None}


def attempts(load: Load) -> set[int]:
    return {r["attempts"] for job in load.answers.values() for r in job["responses"]}


@pytest.mark.parametrize("fault", [killed, frozen, read_only])
async def test_a_short_fault_costs_nothing(deployment: Stack, server: Server, fault: Fault) -> None:
    """Calls continue during the fault. The workers keep answers until they can settle them."""
    load = Load(deployment)
    async with load.steady():
        await deployment.in_flight(1)
        began_ms = now_ms()
        async with fault(server):
            await asyncio.sleep(SHORT_S)  # duration of the fault
            over_ms = now_ms()
        await load.more(12)

    if fault is frozen:
        assert not load.refused  # the API waits longer than SHORT_S before it refuses a request
    assert load.refused.keys() <= {503}
    if fault is read_only:
        load.unsure.clear()  # a refused batch has left nothing in Redis
    calls = await verify(deployment, load, limit=LIMIT)
    assert open_during(calls, began_ms, over_ms)
    assert attempts(load) == {1}
    assert_no_process_ended(deployment)


@pytest.mark.parametrize("deployment", [LEASE_S], indirect=True, ids=["short leases"])
@pytest.mark.parametrize("fault", [killed, frozen, read_only])
async def test_a_long_fault_repeats_only_what_was_running(
    deployment: Stack, server: Server, fault: Fault
) -> None:
    """A call that would take longer than its lease is stopped before the lease expires. No item is
    lost, and a waiting client gets its answer. New batches are refused until Redis is available
    again."""
    load = Load(deployment)
    slow = [f"slow {i}" for i in range(3)]
    model = f"sim-latency-{LONG_S * 1000:.0f}"
    async with load.steady():
        batch = [chat(content, model=model) for content in slow]
        waiting = asyncio.create_task(deployment.batch(batch))
        await called(deployment, slow)
        async with fault(server):
            began_ms = now_ms()
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(LONG_S))  # duration of the fault
                group.create_task(load.refusal())
        over_ms = now_ms()
        await load.more(12)
        answer = await waiting
        assert answer.status_code == 200
        await load.adopt(answer.json()["job_id"], slow)

    if fault is read_only:
        load.unsure.clear()
    hit = open_during(await ledger(deployment), began_ms - STORE_MS, over_ms)
    calls = await verify(deployment, load, limit=LIMIT, may_repeat=hit)
    by_item = calls_by_item(calls)
    assert max(map(len, by_item.values())) == 2
    for item in map(item_of, slow):
        stopped, again = by_item[item]
        assert (stopped.outcome, again.outcome) == ("aborted", 200)
        assert ended_ms(stopped) <= began_ms + LEASE_S * 1000
    for item_calls in by_item.values():
        assert all(ended_ms(call) <= after.start_ms for call, after in pairwise(item_calls))
    assert attempts(load) == {1}
    assert_no_process_ended(deployment)


async def called(stack: Stack, contents: list[str]) -> None:
    """Waits until the provider has been called for each of these requests."""
    items = set(map(item_of, contents))

    async def all_called() -> bool:
        return items <= {call.item for call in await ledger(stack)}

    await eventually(all_called)


def ended_ms(call: Call) -> float:
    assert call.end_ms is not None
    return call.end_ms


async def test_a_full_redis_finishes_what_it_has(deployment: Stack, server: Server) -> None:
    load = Load(deployment)
    async with load.steady():
        used = (await server.client.info("memory"))["used_memory"]
        await server.client.config_set("maxmemory", used)
        await refusals(load, 20)
        accepted = set(load.jobs)
        await wait_completed(load, accepted)
        await refusals(load, 20)
        await server.client.config_set("maxmemory", "0")
        await load.more(12)

    assert accepted
    assert load.refused.keys() == {503}
    load.unsure.clear()  # a refused batch has left nothing in Redis
    await verify(deployment, load, limit=LIMIT)
    assert attempts(load) == {1}
    assert_no_process_ended(deployment)


async def refusals(load: Load, count: int) -> None:
    """Waits until `count` more batches have been refused."""
    goal = load.refused.total() + count

    async def reached() -> bool:
        return load.refused.total() >= goal

    await eventually(reached)


async def wait_completed(load: Load, job_ids: set[str]) -> None:
    """Waits until the clients of the load have seen these jobs completed."""

    async def all_completed() -> bool:
        return job_ids <= load.answers.keys()

    await eventually(all_completed)


async def test_resets_of_all_connections_are_not_noticed(deployment: Stack, server: Server) -> None:
    load, reset = Load(deployment), Counter[str]()
    async with load.steady():
        for _ in range(10):
            for kind in ("normal", "pubsub"):
                reset[kind] += await server.command("CLIENT", "KILL", "TYPE", kind)
            await load.more(1)
        await load.more(12)

    assert min(reset["normal"], reset["pubsub"]) > len(deployment.workers)
    assert not load.refused
    await verify(deployment, load, limit=LIMIT)
    assert attempts(load) == {1}
    assert_no_process_ended(deployment)
