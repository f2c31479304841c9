"""Tests that one run of a script does limited work, because Redis does nothing else meanwhile.

The number of commands is limited, whatever Redis holds. So the time is limited, too: with
CI_DEPTH=full it is measured.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from statistics import median
from time import time

import orjson
import pytest
from arq.connections import ArqRedis
from support.claims import accept, commit
from support.redis_server import Server
from support.script_cost import MAX_COMMANDS, MAX_RUN_MS, script_costs
from support.search_depth import FULL

from shared.jobs.store import Store
from shared.monitoring.counters import Calls, Counter
from shared.monitoring.monitor import Monitor
from shared.monitoring.reports import Report, ReportWriter
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.ids import ItemId, LeaseId
from shared.queue.leases import Lease
from shared.queue.operator_commands import Operator
from shared.queue.redis_keys import Keys
from shared.redis.client import connect

# Counting lines would double its time, and other tests run the same lines.
pytestmark = pytest.mark.no_cover

MANY = 100_000 if FULL else 3000
HOUR_MS = 3_600_000
LANES = [f"lane{number}" for number in range(1000)]
JOB = "job"
RECORD = """return cmsgpack.pack({ until_ms = tonumber(ARGV[1]), pause_ms = 3600000, failures = 0,
  failed_items = {}, refusals = 0, reason = 'answered 429', verdict = 'rate_limited' })"""


@dataclass
class Deployment:
    redis: ArqRedis
    keys: Keys

    def __post_init__(self) -> None:
        self.store = Store(self.redis, self.keys)
        self.queue = Queue(self.redis, self.keys, lease_s=10)
        self.now_ms = time() * 1000

    async def fill(self, commands: Iterable[tuple[object, ...]]) -> None:
        """Runs many commands."""
        pipe = self.redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
            if len(pipe) >= 5000:
                await pipe.execute()
        await pipe.execute()

    async def set_back(self) -> None:
        """Makes the scripts believe that Redis's clock was set back by an hour."""
        for reader in ("rounds", "api"):
            await self.redis.set(self.keys.clock(reader), self.now_ms + HOUR_MS)

    async def job(self, **fields: object) -> None:
        """Stores an unfinished job with many items in no place."""
        stored = {
            "total": MANY + 1,
            "owner": "",
            "priority_class": "bulk",
            "result_ttl_s": 60,
            "accepted_ms": self.now_ms,
            "routes": orjson.dumps({"a": ["m"]}),
            "items_by_lane": orjson.dumps({"a": MANY}),
            **fields,
        }
        await self.redis.hset(self.keys.job(JOB), mapping=stored)  # type: ignore[misc]
        await self.redis.zadd(self.keys.active_lanes, {"a": 0})

    async def rounds(self, count: int = 400) -> None:
        """Runs the rounds of a worker, until a round has nothing to do at once."""
        limits = Limits(dict.fromkeys(["a", *LANES], 10))
        for _ in range(count):
            claimed = await self.queue.settle_and_claim([], Capacity(limits, {}, 100))
            if claimed.next_round_s is None or claimed.next_round_s > 0:
                return

    async def end_overdue(self) -> None:
        for _ in range(2000):
            if not await self.queue.expire_overdue():
                return

    async def look(self) -> None:
        await Monitor(self.redis, self.keys).overview()
        await ReportWriter(self.redis, self.keys).write_levels()


@pytest.fixture
async def deployment(server: Server, keys: Keys) -> AsyncIterator[Deployment]:
    client = connect(server.url)
    await server.client.config_set("appendonly", "no")
    yield Deployment(client, keys)
    await client.aclose()


async def expired_leases(there: Deployment) -> None:
    await there.job()
    await there.fill(
        ("ZADD", there.keys.leases("a"), there.now_ms - 1, f"{JOB}:{n}@1") for n in range(MANY)
    )


async def leases_after_a_set_back(there: Deployment) -> None:
    await there.job()
    await there.set_back()
    expires_ms = there.now_ms + HOUR_MS
    await there.fill(
        ("ZADD", there.keys.leases("a"), expires_ms, f"{JOB}:{n}@1") for n in range(MANY)
    )


async def due_retries(there: Deployment) -> None:
    await there.job()
    await there.fill(("ZADD", there.keys.deferred("a"), 1, f"{JOB}:{n}") for n in range(MANY))


async def retries_after_a_set_back(there: Deployment) -> None:
    await there.job()
    await there.set_back()
    due_ms = there.now_ms + HOUR_MS
    await there.fill(("ZADD", there.keys.deferred("a"), due_ms, f"{JOB}:{n}") for n in range(MANY))


async def deadlines_after_a_set_back(there: Deployment) -> None:
    await there.set_back()
    accepted_ms = there.now_ms + HOUR_MS
    await there.fill(
        command
        for n in range(MANY)
        for command in (
            *[("HSET", there.keys.job(f"j{n}"), "accepted_ms", accepted_ms)],
            *[("HSET", there.keys.job(f"j{n}"), "deadline_ms", accepted_ms + HOUR_MS)],
            *[("ZADD", there.keys.job_deadlines, accepted_ms + HOUR_MS, f"j{n}")],
            *[("ZADD", there.keys.workers, accepted_ms, f"worker{n}")],
        )
    )


async def waiting_queues(there: Deployment) -> None:
    """Queues of jobs that do not exist wait for many models, after a set-back."""
    await there.job()
    await there.set_back()
    due_ms = there.now_ms + HOUR_MS
    await there.fill(
        command
        for n in range(MANY)
        for command in (
            ("ZADD", there.keys.blocked("a"), due_ms * (n % 2), f"m{n}"),
            ("ZADD", there.keys.waiting("a", f"m{n % 100}"), due_ms * (n % 2), f"gone{n} 1"),
        )
    )


async def quarantined_items_of_ended_jobs(there: Deployment) -> None:
    await there.job(finished_ms=1)
    await there.fill(("ZADD", there.keys.quarantine("a"), n, f"{JOB}:{n}") for n in range(MANY))


async def jobs_without_items(there: Deployment) -> None:
    """Owners and jobs stay in the trees of many lanes until their turn comes."""
    await there.fill(
        command
        for n in range(MANY)
        for lane in ("a", LANES[n % 1000])
        for command in (
            ("ZADD", there.keys.active_lanes, 0, lane),
            ("ZADD", there.keys.fair_queue(lane), 0, f"o{n}"),
            ("ZADD", there.keys.fair_queue(lane, f"o{n}"), 0, "bulk"),
            ("ZADD", there.keys.fair_queue(lane, f"o{n}", "bulk"), 0, f"j{n}"),
        )
    )


async def owners_and_lanes(there: Deployment) -> None:
    await there.fill(
        command
        for n in range(MANY)
        for command in (
            ("HSET", there.keys.depth("a"), f"owner{n}", 1),
            ("ZADD", there.keys.active_lanes, 0, LANES[n % 1000]),
            ("ZADD", there.keys.leases(LANES[n % 1000]), there.now_ms + HOUR_MS, f"{JOB}:{n}@1"),
        )
    )


async def hungry_workers(there: Deployment) -> None:
    await there.job()
    await there.fill(
        ("ZADD", there.keys.hungry, there.now_ms + HOUR_MS * (n % 2 * 2 - 1), f"w{n} a")
        for n in range(MANY)
    )
    await accept(there.store, "queued", ["a"] * 100)


async def overdue_jobs(there: Deployment) -> None:
    routes = orjson.dumps({"a": [f"m{n}" for n in range(100)]})
    await there.fill(
        command
        for n in range(MANY // 5)
        for command in (
            ("HSET", there.keys.job(f"j{n}"), "total", 1, "owner", "", "result_ttl_s", 60),
            ("HSET", there.keys.job(f"j{n}"), "accepted_ms", 1, "routes", routes),
            ("ZADD", there.keys.queue("a", f"j{n}", "m7"), 0, 0),
            ("ZADD", there.keys.job_deadlines, 1, f"j{n}"),
        )
    )


async def cancelled_jobs(there: Deployment) -> None:
    for number in range(1500):
        await accept(there.store, f"job{number}", ["a"])
        await there.store.cancel(f"job{number}", "")


STATES: list[Callable[[Deployment], Awaitable[None]]] = [
    *(expired_leases, leases_after_a_set_back, due_retries, retries_after_a_set_back),
    *(deadlines_after_a_set_back, waiting_queues, quarantined_items_of_ended_jobs),
    *(jobs_without_items, owners_and_lanes, hungry_workers, overdue_jobs, cancelled_jobs),
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_each_run_is_short_whatever_there_is(
    deployment: Deployment, state: Callable[[Deployment], Awaitable[None]]
) -> None:
    await state(deployment)
    with script_costs(deployment.redis) as costs:
        await deployment.look()
        await deployment.rounds()
        await deployment.end_overdue()

    assert max(costs.commands) <= MAX_COMMANDS
    if FULL:
        assert median(costs.durations_ms) <= MAX_RUN_MS


async def test_everything_is_corrected_after_a_set_back(deployment: Deployment) -> None:
    """Several runs correct what one run may not."""
    redis, keys, now_ms = deployment.redis, deployment.keys, deployment.now_ms
    await leases_after_a_set_back(deployment)
    await deadlines_after_a_set_back(deployment)

    await deployment.rounds()
    await deployment.end_overdue()

    soon_ms = now_ms + 60_000
    assert await redis.zcount(keys.leases("a"), soon_ms, "+inf") == 0
    assert await redis.zcount(keys.workers, soon_ms, "+inf") == 0
    assert await redis.zcount(keys.job_deadlines, soon_ms + HOUR_MS, "+inf") == 0
    assert not await redis.exists(keys.clock("rounds:left"), keys.clock("api:left"))


async def test_the_records_of_many_models_are_resumed_in_several_runs(
    deployment: Deployment,
) -> None:
    packed = await deployment.redis.eval(RECORD, 0, str(deployment.now_ms + HOUR_MS))  # type: ignore[misc]
    await deployment.fill(
        ("HSET", deployment.keys.health("a"), f"m{n}", packed) for n in range(1000)
    )
    with script_costs(deployment.redis) as costs:
        overview = await Monitor(deployment.redis, deployment.keys).overview()
        resumed = await Operator(deployment.redis, deployment.keys).resume("a")

    # pytest needs minutes for the difference of two large sets.
    assert not {f"a/m{n}" for n in range(1000)} ^ set(resumed)
    assert overview
    assert max(costs.commands) <= MAX_COMMANDS


async def test_many_leases_are_renewed_in_parts(deployment: Deployment) -> None:
    leases = [
        Lease(
            item_id=ItemId(f"j{n}:0"),
            lease_id=LeaseId(f"j{n}:0@1"),
            lane="a",
            payload=b"",
            attempts=0,
            uncounted=0,
            worker_losses=0,
            queued_ms=0,
            retried_ms=0,
            remaining_ms=None,
        )
        for n in range(MANY)
    ]
    with script_costs(deployment.redis) as costs:
        lost = await deployment.queue.renew("worker", leases)

    assert len(lost) == MANY
    assert max(costs.commands) <= MAX_COMMANDS


async def test_a_report_of_many_models_is_written_in_parts(deployment: Deployment) -> None:
    counts: dict[Counter, int] = {Calls("a", "", f"m{n}"): 1 for n in range(MANY)}
    report = Report("worker", 1, {}, {"a": 1}, ["a"])
    with script_costs(deployment.redis) as costs:
        await ReportWriter(deployment.redis, deployment.keys).write(report, counts)

    assert max(costs.commands) <= MAX_COMMANDS


async def test_a_client_that_posts_and_leaves_again_and_again(deployment: Deployment) -> None:
    store = deployment.store
    for number in range(300):
        await accept(store, f"job{number}", ["a"])
        await store.abandon(f"job{number}", "", "digest", grace_s=30, cancels=False)
    with script_costs(deployment.redis) as costs:
        await accept(store, "last", ["a"], body_digest="digest")

    assert await deployment.redis.llen(deployment.keys.abandoned("", "digest")) <= 100  # type: ignore[misc]
    assert max(costs.commands) <= MAX_COMMANDS


async def test_a_job_has_a_limited_number_of_queues(deployment: Deployment) -> None:
    with script_costs(deployment.redis) as costs:
        async with deployment.store.staging("job") as staging:
            for number in range(2000):
                lane = LANES[number % 10]
                await staging.add(lane, b"x", (None, lane, f"m{number}"))
            await commit(staging)
        await deployment.store.snapshot("job")
        await deployment.rounds()
        await deployment.store.cancel("job")

    assert max(costs.commands) <= MAX_COMMANDS
