"""Tests how a worker keeps its leases, and releases them when it stops."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from arq.connections import ArqRedis
from support.claims import POLICY
from support.in_process import LEASE_S, running_worker
from support.stack import eventually, queued
from support.worker_jobs import calls_in_flight, finished, submit

from cli.simulator import Behaviour, Simulator
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.queue.capacity import Capacity
from shared.queue.claims import Claimed, Queue
from shared.queue.leases import Settlement
from shared.queue.redis_keys import Keys
from shared.settings import ProviderSettings, Settings


@pytest.fixture
def jobs(store: Store) -> Jobs:
    return Jobs(store, POLICY)


@pytest.fixture
def slow(simulator: Simulator) -> Simulator:
    """Returns a simulator whose calls take a minute until the test configures it."""
    simulator.configure(Behaviour(latency_ms=60_000))
    return simulator


@pytest.mark.usefixtures("worker")
async def test_leases_are_renewed_for_as_long_as_calls_run(jobs: Jobs, slow: Simulator) -> None:
    slow.configure(Behaviour(latency_ms=int(LEASE_S * 1500)))
    status = await finished(jobs, await submit(jobs, 3))

    assert (status.successful, slow.stats()["total"]) == (3, 3)


@pytest.mark.usefixtures("worker")
async def test_a_call_stops_before_its_lease_expires_when_redis_is_unavailable(
    jobs: Jobs, slow: Simulator, redis: ArqRedis
) -> None:
    job_id = await submit(jobs, 1)
    await calls_in_flight(slow, 1)
    frozen_at = time.monotonic()
    await redis.client_pause(int(LEASE_S * 1500))

    await calls_in_flight(slow, 0)

    assert time.monotonic() - frozen_at < LEASE_S
    slow.configure(Behaviour())
    assert (await finished(jobs, job_id)).successful == 1


@pytest.mark.usefixtures("worker")
async def test_an_answer_that_came_while_redis_was_unavailable_is_kept(
    jobs: Jobs, slow: Simulator, redis: ArqRedis
) -> None:
    slow.configure(Behaviour(latency_ms=200))
    job_id = await submit(jobs, 1)
    await calls_in_flight(slow, 1)
    await redis.client_pause(int(LEASE_S * 500))

    status = await finished(jobs, job_id)

    assert (status.successful, slow.stats()["total"]) == (1, 1)


async def test_leases_that_a_new_redis_does_not_know_are_lost_at_once(
    jobs: Jobs,
    slow: Simulator,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    keys: Keys,
) -> None:
    settings = settings.model_copy(update={"lease_seconds": 600})  # renewals are rare, too
    async with running_worker(settings, providers):
        await submit(jobs, 1)
        await calls_in_flight(slow, 1)
        await redis.delete(keys.leases("openrouter"))

        await redis.client_kill_filter(_type="pubsub")

        await calls_in_flight(slow, 0)


async def test_an_answer_that_is_stored_late_keeps_its_lease(
    jobs: Jobs,
    simulator: Simulator,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the lease expired, the provider would be called and paid again."""
    settle = Queue.settle_and_claim

    async def settle_late(
        queue: Queue, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        """Waits until the leases have been renewed for more than their whole time."""
        for waiting in settlements:
            key, lease = keys.leases(waiting.lease.lane), waiting.lease.lease_id
            first_ms = await redis.zscore(key, lease) or 0

            async def is_renewed(key: str = key, lease: str = lease, ms: float = first_ms) -> bool:
                return (await redis.zscore(key, lease) or 0) > ms + 1.5 * LEASE_S * 1000

            await eventually(is_renewed)
        return await settle(queue, settlements, capacity)

    monkeypatch.setattr(Queue, "settle_and_claim", settle_late)
    async with running_worker(settings, providers):
        status = await finished(jobs, await submit(jobs, 1))

    assert (status.successful, simulator.stats()["total"]) == (1, 1)


async def test_a_stopping_worker_releases_its_items_at_once(
    jobs: Jobs,
    slow: Simulator,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    keys: Keys,
) -> None:
    job_id = await submit(jobs, 3)
    async with running_worker(settings, providers):
        await calls_in_flight(slow, 3)

    assert await redis.zcard(keys.leases("openrouter")) == 0
    assert await queued(redis, keys) == 3
    assert await redis.zcard(keys.workers) == 0
    slow.configure(Behaviour())
    async with running_worker(settings, providers):
        status = await finished(jobs, job_id)
    assert [response.attempts for response in status.responses or () if response] == [1, 1, 1]


async def test_items_that_are_claimed_while_the_worker_stops_are_released(
    jobs: Jobs,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange, handed_out = Queue.settle_and_claim, asyncio.Event()

    async def reply_on_its_way(
        queue: Queue, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        claimed = await exchange(queue, settlements, capacity)
        if claimed.leases:
            handed_out.set()
            await asyncio.sleep(0.1)
        return claimed

    monkeypatch.setattr(Queue, "settle_and_claim", reply_on_its_way)
    async with running_worker(settings, providers):
        await submit(jobs, 3)
        async with asyncio.timeout(30):
            await handed_out.wait()

    assert await redis.zcard(keys.leases("openrouter")) == 0
    assert await queued(redis, keys) == 3


@pytest.mark.parametrize("late_s", [0.725 * 3, 3])  # a call must stop after 2.4 s
async def test_a_late_claim_costs_no_call(
    jobs: Jobs,
    simulator: Simulator,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    monkeypatch: pytest.MonkeyPatch,
    late_s: float,
) -> None:
    """The claim is late, as if Redis was slow or the process was suspended.

    If the lease has time left, the call starts and the lease is renewed at once. Otherwise no call
    starts.
    """
    exchange, waited = Queue.settle_and_claim, asyncio.Event()

    async def late(
        queue: Queue, settlements: Sequence[Settlement], capacity: Capacity | None
    ) -> Claimed:
        claimed = await exchange(queue, settlements, capacity)
        if claimed.leases and not waited.is_set():
            await asyncio.sleep(late_s)
            assert simulator.stats()["total"] == 0
            waited.set()
        return claimed

    monkeypatch.setattr(Queue, "settle_and_claim", late)
    simulator.configure(Behaviour(latency_ms=700))
    settings = settings.model_copy(update={"lease_seconds": 3})
    job_id = await submit(jobs, 3)
    async with running_worker(settings, providers):
        assert (await finished(jobs, job_id)).successful == 3

    assert waited.is_set()
    assert simulator.stats()["total"] == 3
