"""Tests that one script does limited work, because Redis does nothing else meanwhile."""

from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis
from support.claims import accept, claim
from support.redis_server import Server

from shared.jobs.store import Store
from shared.queue.claims import Queue
from shared.queue.keys import Keys
from shared.redis.client import connect

JOBS = 1500
MAX_COMMANDS = 2500  # about 5 ms


@pytest.fixture
async def own_redis(server: Server) -> AsyncIterator[ArqRedis]:
    """A Redis that counts the commands of this test only."""
    client = connect(server.url)
    yield client
    await client.aclose()


async def commands(redis: ArqRedis) -> int:
    statistics = await redis.info("commandstats")
    return sum(int(entry["calls"]) for entry in statistics.values())


async def test_cancelled_jobs_are_swept_in_several_rounds(own_redis: ArqRedis, keys: Keys) -> None:
    store, queue = Store(own_redis, keys), Queue(own_redis, keys, lease_s=10)
    for number in range(JOBS):
        await accept(store, f"job{number}", ["a"])
        await store.cancel(f"job{number}")
    await accept(store, "alive", ["a"])

    costs = []
    while not await own_redis.exists(keys.leases("a")):
        before = await commands(own_redis)
        await claim(queue, a=10)
        costs.append(await commands(own_redis) - before)
        assert len(costs) < 50

    assert max(costs) < MAX_COMMANDS


async def test_overdue_jobs_end_in_several_rounds(own_redis: ArqRedis, keys: Keys) -> None:
    store, queue = Store(own_redis, keys), Queue(own_redis, keys, lease_s=10)
    for number in range(JOBS // 5):
        await accept(store, f"job{number}", ["a"], deadline_s=0.001)

    costs = []
    while await own_redis.exists(keys.job_deadlines):
        before = await commands(own_redis)
        await queue.expire_overdue()
        costs.append(await commands(own_redis) - before)
        assert len(costs) < 50

    assert max(costs) < MAX_COMMANDS
