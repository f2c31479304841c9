"""Tests the index of active lanes, the order of the lanes, and their shares of a worker's slots."""

import asyncio
from collections import Counter

import pytest
from arq.connections import ArqRedis
from support.claims import POLICY, accept, claim, finish, settle
from support.redis_server import Server

from shared.jobs.store import Store
from shared.jobs.submission import Submission, acceptance
from shared.providers import WEBHOOK_LANE
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.leases import MAX_WORKER_LOSSES, Lease, Settlement
from shared.queue.redis_keys import Keys
from shared.redis.client import connect
from worker.running_calls import RunningCalls

MANY = {f"lane-{number:02}": 10 for number in range(25)}


@pytest.fixture
def active(redis: ArqRedis, keys: Keys) -> "Active":
    return Active(redis, keys)


class Active:
    """Reads the index, and moves times into the past."""

    def __init__(self, redis: ArqRedis, keys: Keys) -> None:
        self.redis, self.keys = redis, keys

    async def lanes(self) -> list[str]:
        return [lane.decode() for lane in await self.redis.zrange(self.keys.active_lanes, 0, -1)]

    async def expire_leases(self, lane: str) -> None:
        for lease in await self.redis.zrange(self.keys.leases(lane), 0, -1):
            await self.redis.zadd(self.keys.leases(lane), {lease: 1})

    async def make_retries_due(self, lane: str) -> None:
        for item in await self.redis.zrange(self.keys.deferred(lane), 0, -1):
            await self.redis.zadd(self.keys.deferred(lane), {item: 1})


async def fill(queue: Queue, lane: str, running: Counter[str], slots: int, lanes: int) -> None:
    """Claims all items of a lane that a worker with `slots` slots may take. The calls never end."""
    limits = Limits({f"{number}": 100_000 for number in range(lanes)})
    while True:
        capacity = Capacity(limits, running, slots - running.total())
        leases = (await queue.settle_and_claim([], capacity)).leases
        running.update(lease.lane for lease in leases)
        if lane not in {lease.lane for lease in leases}:
            return


@pytest.mark.parametrize(("busy", "most"), [("a", 30), ("abcde", 110)])
async def test_idle_lanes_cost_no_command(server: Server, busy: str, most: int) -> None:
    """A round of a worker with 100 providers costs what a round with the busy ones costs."""
    client = connect(server.url)
    queue, store = Queue(client, Keys(), lease_s=60), Store(client, Keys())
    spent = {}
    for idle in (0, 100 - len(busy)):
        limits = dict.fromkeys(busy, 1) | {f"idle-{number}": 10 for number in range(idle)}
        await accept(store, f"job {idle}", busy * 10)
        leases = await claim(queue, **limits)
        await client.config_resetstat()
        settlements = [Settlement(lease, "complete", b"{}") for lease in leases]
        leases = (await queue.settle_and_claim(settlements, Capacity(Limits(limits), {}, 9))).leases
        statistics = await client.info("commandstats")
        spent[idle] = {name: command["calls"] for name, command in statistics.items()}
        assert len(leases) == len(busy)
        await client.flushall()
    await client.aclose()

    few, many = spent.values()
    assert few == many
    assert sum(few.values()) < most


def test_idle_lanes_add_no_argument_to_a_round() -> None:
    few, many = Limits({"a": 1}), Limits({"a": 1} | MANY)

    assert len(Capacity(many, {}, 9).argv()) == len(Capacity(few, {}, 9).argv())
    assert Capacity(many, {}, 9).argv()[0] is many.encoded  # encoded once


async def test_a_worker_reports_only_lanes_in_which_it_runs_something(
    queue: Queue, store: Store
) -> None:
    await accept(store, "job", "ab")
    calls = RunningCalls()
    for lease in await claim(queue, a=1, b=1):
        calls.add(lease, asyncio.get_running_loop().create_future(), 0)  # type: ignore[arg-type]
    first, second = calls.leases
    calls.remove(first)

    assert dict(calls.by_lane) == {second.lane: 1}


async def test_a_lane_is_active_while_it_has_items(
    queue: Queue, store: Store, active: Active
) -> None:
    assert await active.lanes() == []
    await accept(store, "job", "a")
    assert await active.lanes() == ["a"]
    [lease] = await claim(queue)
    assert await claim(queue) == []
    assert await active.lanes() == ["a"]  # the item has a lease
    await settle(queue, Settlement(lease, "retry", delay_s=60))
    assert await claim(queue) == []
    assert await active.lanes() == ["a"]  # the item waits for a retry
    await active.make_retries_due("a")
    [lease] = await claim(queue)
    await settle(queue, Settlement(lease, "release"))
    assert await active.lanes() == ["a"]
    [lease] = await claim(queue)
    await finish(queue, [lease])
    assert await claim(queue) == []
    assert await active.lanes() == []
    await accept(store, "next", "a")
    assert len(await claim(queue)) == 1


async def test_a_lane_with_a_quarantined_item_is_active(
    queue: Queue, store: Store, active: Active
) -> None:
    await accept(store, "job", "a")
    for _ in range(MAX_WORKER_LOSSES - 1):
        assert len(await claim(queue)) == 1
        await active.expire_leases("a")
    await claim(queue, free_slots=0)  # reclaims the lease

    assert await claim(queue, free_slots=0) == []
    assert await active.lanes() == ["a"]
    assert len(await claim(queue)) == 1


async def test_a_lane_whose_job_was_cancelled_becomes_idle(
    queue: Queue, store: Store, active: Active
) -> None:
    await accept(store, "job", "ab")
    await store.cancel("job")

    for _ in range(2):  # the first round removes the job from the order of the lane
        assert await claim(queue, a=1, b=1) == []
    assert await active.lanes() == []


async def test_only_a_worker_that_serves_a_lane_removes_it_from_the_index(
    queue: Queue, store: Store, active: Active
) -> None:
    await accept(store, "job", "ab")

    assert [lease.lane for lease in await claim(queue, a=5)] == ["a"]
    assert await active.lanes() == ["b", "a"]
    assert [lease.lane for lease in await claim(queue, b=5)] == ["b"]


async def test_a_webhook_delivery_makes_its_lane_active(
    queue: Queue, store: Store, active: Active
) -> None:
    submission = Submission(webhook_url="http://x.test")
    async with store.staging("job") as staging:
        await staging.add("a", b"payload", (None, "a", "m"))
        await staging.commit(acceptance(submission, POLICY, webhook_payload=b"to deliver"))
    await finish(queue, await claim(queue))

    assert WEBHOOK_LANE in await active.lanes()
    [delivery] = await claim(queue, **{WEBHOOK_LANE: 10})
    assert delivery.payload == b"to deliver"


async def test_a_lane_has_the_limit_of_its_whole_name(queue: Queue, store: Store) -> None:
    await accept(store, "job", ["a"] * 9 + ["a-b"] * 9 + ["b"] * 9)

    leases = await claim(queue, **{"a-b": 1, "b": 2, "a": 3})

    assert Counter(lease.lane for lease in leases) == {"a-b": 1, "b": 2, "a": 3}


async def test_lanes_take_turns(queue: Queue, store: Store) -> None:
    """One slot serves 25 lanes, so no lane with a backlog keeps another from its turn."""
    for lane in MANY:
        await accept(store, lane, [lane] * 3)
    served: list[str] = []
    leases: list[Lease] = []
    for _ in range(2 * len(MANY)):
        settlements = [Settlement(lease, "complete", b"{}") for lease in leases]
        capacity = Capacity(Limits(MANY), {}, 1)
        leases = (await queue.settle_and_claim(settlements, capacity)).leases
        served += [lease.lane for lease in leases]

    assert served == [*MANY, *MANY]


async def test_a_lane_that_becomes_active_is_next(queue: Queue, store: Store) -> None:
    await accept(store, "busy", "a" * 9)
    await accept(store, "other", "b" * 9)
    for _ in range(3):
        await finish(queue, await claim(queue, free_slots=1, a=1, b=1, c=1))
    await accept(store, "new", "c")

    [lease] = await claim(queue, free_slots=1, a=1, b=1, c=1)

    assert lease.lane == "c"


@pytest.mark.parametrize(("slots", "kept"), [(3, 1), (5, 1), (64, 16), (512, 128)])
async def test_a_single_busy_lane_leaves_slots_for_the_others(
    queue: Queue, store: Store, slots: int, kept: int
) -> None:
    await accept(store, "slow", ["0"] * 600)
    running = Counter[str]()
    await fill(queue, "0", running, slots, lanes=25)

    assert slots - running.total() == kept


async def test_a_worker_that_serves_one_lane_gives_it_all_slots(queue: Queue, store: Store) -> None:
    await accept(store, "slow", ["0"] * 600)
    running = Counter[str]()
    await fill(queue, "0", running, 64, lanes=1)

    assert running == {"0": 64}


async def test_each_of_twenty_slow_lanes_gets_slots_although_earlier_ones_never_end(
    queue: Queue, store: Store
) -> None:
    """The lanes become slow one after another, and each takes all slots that it may take."""
    running = Counter[str]()
    for number in range(20):
        await accept(store, f"slow {number}", [f"{number}"] * 600)
        await fill(queue, f"{number}", running, 512, lanes=25)

    assert len(running) == 20
    assert running.total() < 512
