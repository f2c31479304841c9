"""Tests jumps of Redis's clock, on a real Valkey whose clock is set while it runs."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from support.claims import accept, claim, rate_limited, settle
from support.redis_server import Clock, Server, server_with_clock
from support.stack import Stack, chat

from shared.jobs.store import Store
from shared.monitoring.monitor import Monitor
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.leases import Settlement
from shared.queue.redis_keys import Keys

LEASE_S = 5.0
HOUR_S = 3600
STEP_S = 1.0  # a reader's record of the clock may be so old: see clock_set_back.lua
SLACK_S = 5.0  # a test may take so long between two commands


@dataclass
class Deployment:
    server: Server
    clock: Clock
    queue: Queue
    store: Store

    async def set_clock(self, offset_s: float) -> None:
        await self.clock.set(self.server, offset_s)

    async def next_round_s(self) -> float:
        """Runs a round that may claim nothing. Returns the time until the next round."""
        claimed = await self.queue.settle_and_claim([], Capacity(Limits({"a": 10}), {}, 10))
        assert not claimed.leases
        assert claimed.next_round_s is not None
        return claimed.next_round_s


@pytest.fixture
async def deployment(keys: Keys) -> AsyncIterator[Deployment]:
    async with server_with_clock() as (server, clock):
        queue = Queue(server.client, keys, lease_s=LEASE_S)
        yield Deployment(server, clock, queue, Store(server.client, keys))


@pytest.mark.parametrize("set_back_s", [600, HOUR_S])
async def test_a_pause_lasts_no_longer_than_it_was_meant(
    deployment: Deployment, keys: Keys, set_back_s: int
) -> None:
    await accept(deployment.store, "job", "aa")
    [lease] = await claim(deployment.queue, a=1)
    await settle(deployment.queue, Settlement(lease, "retry", delay_s=0, fault=rate_limited(20)))
    await deployment.set_clock(-set_back_s)

    overview = await Monitor(deployment.server.client, keys).overview()
    left_s = [await deployment.next_round_s() for _ in range(2)]

    [lane] = [lane for lane in overview.lanes if lane.name == "a"]
    [paused] = lane.deployments
    assert paused.since <= overview.at
    assert (paused.next_call_at - overview.at).total_seconds() <= 20
    assert 20 - SLACK_S < left_s[1] <= left_s[0] <= 20
    await deployment.set_clock(21 - set_back_s)
    assert len(await claim(deployment.queue)) == 2


@pytest.mark.parametrize("delay_s", [20, HOUR_S])
async def test_a_retry_is_due_when_it_was_meant(deployment: Deployment, delay_s: int) -> None:
    """A short and a long wait are both corrected by the time by which the clock was set back."""
    await accept(deployment.store, "job", "a")
    [lease] = await claim(deployment.queue, a=1)
    await settle(deployment.queue, Settlement(lease, "retry", delay_s=delay_s))
    await deployment.set_clock(-600)

    left_s = await deployment.next_round_s()

    assert delay_s - SLACK_S < left_s <= delay_s + STEP_S
    await deployment.set_clock(delay_s + STEP_S - 600)
    assert len(await claim(deployment.queue)) == 1


async def test_a_lost_workers_lease_expires_within_a_lease(deployment: Deployment) -> None:
    await accept(deployment.store, "job", "a")
    await claim(deployment.queue, a=1)
    await deployment.set_clock(-HOUR_S)

    left_s = await deployment.next_round_s()

    assert left_s <= LEASE_S
    await deployment.set_clock(LEASE_S + 0.1 - HOUR_S)
    [lease] = await claim(deployment.queue)
    assert lease.worker_losses == 1
    assert lease.queued_ms == lease.retried_ms == 0  # no time is negative


async def test_a_running_workers_lease_is_kept(deployment: Deployment) -> None:
    """The worker renews its lease after the clock was set back, and before a round corrects it."""
    await accept(deployment.store, "job", "a")
    leases = await claim(deployment.queue, a=1)
    await deployment.set_clock(-HOUR_S)

    stop = await deployment.queue.renew("worker", leases)
    left_s = await deployment.next_round_s()

    assert not stop
    assert 0 < left_s <= LEASE_S


async def test_a_lost_worker_does_not_count_as_alive(deployment: Deployment) -> None:
    await deployment.queue.renew("worker", [])
    await deployment.queue.expire_overdue()
    await deployment.set_clock(-HOUR_S)

    await deployment.queue.expire_overdue()
    await deployment.set_clock(LEASE_S + 0.1 - HOUR_S)

    assert await deployment.queue.workers() == []


async def test_a_deadline_and_a_grace_period_are_no_longer_than_they_were_meant(
    deployment: Deployment,
) -> None:
    await accept(deployment.store, "overdue", "a", deadline_s=60)
    await accept(deployment.store, "abandoned", "a")
    await deployment.store.abandon("abandoned", "", "digest", grace_s=30, cancels=True)
    await deployment.queue.expire_overdue()
    await deployment.set_clock(-HOUR_S)

    ended = []
    for passed_s in (0, 31, 61):
        await deployment.set_clock(passed_s - HOUR_S)
        await deployment.queue.expire_overdue()
        jobs = [await deployment.store.snapshot(job) for job in ("abandoned", "overdue")]
        ended.append([job and job.finished_early_as for job in jobs])

    assert ended == [[None, None], ["cancelled", None], ["cancelled", "deadline_exceeded"]]


async def test_after_a_jump_forward_items_run_and_nothing_is_corrected(
    deployment: Deployment,
) -> None:
    await accept(deployment.store, "job", "aa")
    first, second = await claim(deployment.queue, a=2)
    await settle(deployment.queue, Settlement(first, "retry", delay_s=60))
    await deployment.set_clock(HOUR_S)

    again = await claim(deployment.queue)

    assert {lease.item_id for lease in again} == {first.item_id, second.item_id}


async def test_items_of_a_killed_worker_run_although_the_clock_was_set_back(keys: Keys) -> None:
    async with server_with_clock() as (server, clock):
        deployment = Stack(server.url, keys, {})
        try:
            await deployment.start(workers=1)
            await deployment.simulate(latency_ms=5000)
            batch = asyncio.create_task(deployment.batch([chat(str(n)) for n in range(5)]))
            await deployment.in_flight(5)
            await deployment.simulate(latency_ms=100)
            await deployment.add_worker()
            await deployment.ready(2)
            await clock.set(server, -HOUR_S)
            deployment.workers[0].kill()
            answer = (await batch).json()
            await deployment.ready(1)
        finally:
            await deployment.stop()

    assert answer["successful"] == 5
