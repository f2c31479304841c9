"""Tests how workers divide the limit of a lane: no worker holds it all while others could run."""

import re
from collections import Counter
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from support.claims import accept, finish
from support.search_depth import FULL
from support.virtual_run import Call, Reply, VirtualRun, use_virtual_clock

from shared.jobs.store import Store
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.leases import Lease, Settlement
from shared.queue.redis_keys import Keys
from worker.lane_worker import POLL_JITTER, POLL_S

SHARE = Path(__file__).parents[1] / "shared" / "queue" / "lua" / "lib" / "worker_share.lua"
LIMIT, ITEMS = 40, 2000
WORKERS = ("one", "two", "three", "four")


class Fleet:
    """Workers with more free slots than the limit of lane a."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.running: dict[str, list[Lease]] = {worker: [] for worker in WORKERS}
        self.served = Counter[str]()

    async def round(self, worker: str, finished: int = 0) -> int:
        """Settles some of the worker's leases and claims. Returns the number of new leases."""
        mine = self.running[worker]
        settlements = [Settlement(lease, "complete", b"{}") for lease in mine[:finished]]
        del mine[:finished]
        capacity = Capacity(Limits({"a": LIMIT}), {"a": len(mine)}, 500, worker_id=worker)
        claimed = (await self.queue.settle_and_claim(settlements, capacity)).leases
        mine += claimed
        self.served[worker] += len(claimed)
        return len(claimed)

    @property
    def in_flight(self) -> int:
        return sum(map(len, self.running.values()))


@pytest.fixture
async def fleet(queue: Queue, store: Store) -> Fleet:
    await accept(store, "job", "a" * ITEMS, max_depth=ITEMS)
    for worker in WORKERS:
        await queue.renew(worker, [])
    return Fleet(queue)


async def run(fleet: Fleet, workers: tuple[str, ...], rounds: int, finished: int) -> None:
    for _ in range(rounds):
        for worker in workers:
            await fleet.round(worker, finished)
        assert fleet.in_flight <= LIMIT


async def test_a_worker_that_was_first_gives_up_its_slots(fleet: Fleet) -> None:
    assert await fleet.round("one") == LIMIT  # a single round claims all, while nobody else asks
    for other in WORKERS[1:]:
        assert await fleet.round(other) == 0

    await run(fleet, WORKERS, rounds=200, finished=1)

    assert {worker: len(leases) for worker, leases in fleet.running.items()} == dict.fromkeys(
        WORKERS, LIMIT // len(WORKERS)
    )
    assert max(fleet.served.values()) <= 0.4 * fleet.served.total()


async def test_calls_that_end_together_are_divided_too(fleet: Fleet) -> None:
    await fleet.round("one")
    for other in WORKERS[1:]:
        await fleet.round(other)

    await run(fleet, WORKERS, rounds=20, finished=LIMIT)

    assert fleet.in_flight == LIMIT
    assert max(fleet.served.values()) <= 0.4 * fleet.served.total()


async def test_workers_without_free_slots_leave_the_limit_to_the_others(fleet: Fleet) -> None:
    """The limit is used up even if the other workers do not claim."""
    await run(fleet, ("one", "two"), rounds=50, finished=1)

    assert fleet.in_flight == LIMIT


async def test_a_worker_that_has_stopped_asking_is_forgotten(
    fleet: Fleet, queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await fleet.round("one")
    assert await fleet.round("two") == 0
    assert await redis.zrange(keys.hungry, 0, -1) == [b"two a"]
    await finish(queue, fleet.running["one"])
    fleet.running["one"] = []

    assert await fleet.round("one") == LIMIT // len(WORKERS)
    await redis.zadd(keys.hungry, {"two a": 1})  # its time is over
    assert await fleet.round("one") == LIMIT - LIMIT // len(WORKERS)


class Provider:
    def begin(self, call: Call) -> Reply:  # noqa: ARG002 — each call takes as long
        return Reply(0.1)

    def end(self, call: Call) -> None:
        pass


async def test_four_workers_share_a_large_job_and_are_no_slower_than_one(
    redis: ArqRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    walls_s, items = [], 5000 if FULL else 1000
    for workers in (1, 4):
        own = Keys(f"{keys.prefix}{workers}:")
        use_virtual_clock(monkeypatch, own)
        run = VirtualRun(redis, own, Provider(), limit=LIMIT, workers=workers)
        await run.accept([f"{number}" for number in range(items)])
        await run.run()
        await run.close()
        walls_s.append(max(call.end_s for call in run.calls))
    assert max(Counter(call.worker for call in run.calls).values()) <= 0.4 * items
    assert walls_s[1] <= 1.01 * walls_s[0]


def test_a_hungry_worker_is_known_until_its_next_round() -> None:
    """A worker that is not woken makes its next round after `POLL_S`, give or take a fifth."""
    [hungry_ms] = re.findall(r"^local HUNGRY_MS = (\d+)", SHARE.read_text(), re.MULTILINE)

    assert int(hungry_ms) > POLL_S * (1 + POLL_JITTER) * 1000
