"""Tests faults while two owners use uploads, batches, streams and idempotency keys on two APIs."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.authentication import ANN, API_KEYS, BOB
from support.faults import kill
from support.invariants import verify
from support.ledger import STORE_MS, busiest, ledger, now_ms, open_during
from support.mixed_load import MixedLoad
from support.redis_server import Server
from support.stack import Stack

from shared.queue.redis_keys import Keys

pytestmark = pytest.mark.chaos

LIMIT = 10
LEASE_S = 3.0
OUTAGE_S = 5.0  # duration of an outage, longer than a lease
SETTINGS = {
    "API_KEYS": API_KEYS,
    "MAX_CONCURRENT_REQUESTS": str(LIMIT),
    "LEASE_SECONDS": f"{LEASE_S:g}",
    "WORKER_MAX_JOBS": "8",
}


@pytest.fixture
async def deployment(server: Server, keys: Keys) -> AsyncIterator[Stack]:
    headers = {"authorization": f"Bearer {ANN}"}
    deployment = Stack(server.url, keys, SETTINGS, headers=headers)
    try:
        await deployment.start(workers=3)
        await deployment.simulate(latency_ms=50, latency_spread_ms=50)
        yield deployment
    finally:
        await deployment.stop()


@pytest.fixture
async def load(deployment: Stack) -> MixedLoad:
    apis = (deployment.api, await deployment.another_api())
    bobs = tuple(deployment.client(BOB, api) for api in apis)
    return MixedLoad(deployment, {"ann": apis, "bob": bobs})


async def test_a_worker_is_killed(deployment: Stack, load: MixedLoad) -> None:
    async with load.steady():
        hit = await kill(deployment, await busiest(deployment))
        await deployment.add_worker()
        await load.more(6)

    await verify(deployment, load, limit=LIMIT, may_repeat=hit)


async def test_an_api_is_killed_and_comes_back(deployment: Stack, load: MixedLoad) -> None:
    """No client notices the fault: the other API answers, and continues the streams."""
    async with load.steady():
        deployment.api_process.kill()
        await deployment.api_process.wait()
        await load.more(6)
        await deployment.restart_api()
        await load.more(6)

    await verify(deployment, load, limit=LIMIT)


async def test_an_api_is_replaced(deployment: Stack, load: MixedLoad) -> None:
    async with load.steady():
        for _ in range(3):
            deployment.api_process.terminate()
            await deployment.api_process.wait()
            await deployment.restart_api()
            await load.more(3)

    await verify(deployment, load, limit=LIMIT)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_redis_is_unavailable_for_longer_than_a_lease(
    deployment: Stack, load: MixedLoad, server: Server, fault: str
) -> None:
    async with load.steady():
        began_ms = now_ms()
        if fault == "kill":
            await server.kill()
        else:
            server.freeze()
        await asyncio.sleep(OUTAGE_S)  # duration of the fault
        if fault == "kill":
            await server.start()
        else:
            server.thaw()
        over_ms = now_ms()
        await load.more(6)

    hit = open_during(await ledger(deployment), began_ms - STORE_MS, over_ms)
    await verify(deployment, load, limit=LIMIT, may_repeat=hit)
