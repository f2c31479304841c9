"""Measures what an item costs Redis from acceptance to result, in bytes, commands and CPU time."""

from collections import defaultdict

import redis.asyncio

from benchmarks.client import PROMPT
from benchmarks.measured_values import Figure, Sample
from benchmarks.processes import Processes, valkey
from shared.jobs.new_item import native_items
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.jobs.submission import JobPolicy, Submission
from shared.models import LLMRequest, Message, Role
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.item_results import Result
from shared.queue.leases import Lease, Settlement
from shared.queue.redis_keys import Keys
from shared.redis.client import connect

BATCH = 100
LIMIT = 10
RENEWED = (2_000, 20_000)
RUNNING = max(RENEWED)
JOBS, OWNERS, ROUNDS, REPEATS = 1_000, 10, 2_000, 3


async def redis_cost(items: int) -> list[Figure]:
    async with valkey(Processes({})) as url:
        client = connect(url)
        queue = Queue(client, Keys(), lease_s=600)
        policy = JobPolicy(result_ttl_s=3600, idempotency_ttl_s=3600, max_queue_depth=10**9)
        jobs = Jobs(Store(client, Keys()), policy)
        empty = await _counts(client)
        await _submit(jobs, items)
        waiting = await _counts(client)
        await _run(queue, items)
        finished = await _counts(client)
        rounds = defaultdict[tuple[int, int], list[float]](list)
        for _ in range(REPEATS):
            for slots in (LIMIT, 1):
                for many in (1, JOBS):
                    spent_us = await _round_us(client, queue, jobs, many, slots)
                    rounds[slots, many].append(spent_us / slots)
        await _submit(jobs, RUNNING)
        queued = await _counts(client)
        leases = await _claim(queue, RUNNING)
        running = await _counts(client)
        renewals = [await _renewal_us(client, queue, leases[:count]) for count in RENEWED]
        await client.aclose()

    def per_item(name: str, before: dict[str, float], after: dict[str, float]) -> Sample:
        return Sample.of([(after[name] - before[name]) / items])

    rows = [
        ("memory of a waiting item", "bytes", "used_memory", empty, waiting),
        (
            "memory of a finished item, until its results expire",
            "bytes",
            "used_memory",
            empty,
            finished,
        ),
        ("received by Redis", "bytes", "total_net_input_bytes", empty, finished),
        ("sent by Redis", "bytes", "total_net_output_bytes", empty, finished),
        (
            "commands, including those inside scripts",
            "",
            "total_commands_processed",
            empty,
            finished,
        ),
        ("CPU of Redis to accept an item", "µs", "cpu_us", empty, waiting),
        ("CPU of Redis to claim and settle an item", "µs", "cpu_us", waiting, finished),
    ]
    lease_bytes = (running["used_memory"] - queued["used_memory"]) / len(leases)
    return [
        *(
            Figure(f"{text}, per item", unit, "", {"c": per_item(name, before, after)})
            for text, unit, name, before, after in rows
        ),
        *(
            figure
            for slots in (LIMIT, 1)
            for figure in _fairness(slots, rounds[slots, 1], rounds[slots, JOBS])
        ),
        Figure(
            "additional memory while an item runs, per item",
            "bytes",
            "",
            {"c": Sample.of([lease_bytes])},
        ),
        *(
            Figure(f"renewal of {count:,} leases, per lease", "µs", "", {"c": Sample.of([cost])})
            for count, cost in zip(RENEWED, renewals, strict=True)
        ),
    ]


async def _submit(jobs: Jobs, items: int, *, owner: str = "", size: int = BATCH) -> None:
    for first in range(0, items, size):
        requests = [
            LLMRequest(
                provider="openrouter",
                model="google/gemma-3-27b-it:free",
                messages=[Message(role=Role.USER, content=f"{PROMPT}{first + index}")],
            )
            for index in range(size)
        ]
        submission = Submission(owner=owner)
        await jobs.submit(jobs.new_id(), native_items(requests), submission)


def _fairness(slots: int, one_us: list[float], many_us: list[float]) -> list[Figure]:
    """Compares a queue of one job, which needs no choice, with a queue of many jobs and owners."""
    prefix = f"script that settles and claims {slots} at a time, per item"
    return [
        Figure(f"{prefix}: one job queued", "µs", "", {"c": Sample.of(one_us)}),
        Figure(
            f"{prefix}: {JOBS:,} jobs of {OWNERS} owners queued",
            "µs",
            "",
            {"c": Sample.of(many_us)},
        ),
    ]


async def _round_us(
    client: redis.asyncio.Redis, queue: Queue, jobs: Jobs, waiting: int, slots: int
) -> float:
    """Returns the µs that Redis spends in a round that settles and claims `slots` items.

    waiting: number of jobs in the queue.
    """
    size = 2 * ROUNDS * slots // waiting + 10
    for number in range(waiting):
        await _submit(jobs, size, owner=f"owner {number % OWNERS}", size=size)
    capacity = Capacity(Limits({"openrouter": slots}), {}, slots)
    settlements: list[Settlement] = []
    for _ in ("warm up", "measure"):
        await client.config_resetstat()
        for _ in range(ROUNDS):
            leases = (await queue.settle_and_claim(settlements, capacity)).leases
            settlements = [Settlement(lease, "complete", b"{}") for lease in leases]
    spent_us: float = (await client.info("commandstats"))["cmdstat_evalsha"]["usec"]
    await queue.settle_and_claim(settlements, None)
    await client.flushall()
    return spent_us / ROUNDS


async def _claim(queue: Queue, count: int) -> list[Lease]:
    leases: list[Lease] = []
    while len(leases) < count:
        capacity = Capacity(Limits({"openrouter": count}), {}, count - len(leases))
        leases += (await queue.settle_and_claim([], capacity)).leases
    return leases


async def _renewal_us(client: redis.asyncio.Redis, queue: Queue, leases: list[Lease]) -> float:
    """Returns the µs that Redis spends per lease in the script that renews leases."""
    await client.config_resetstat()
    await queue.renew("worker", leases)
    spent_us: float = (await client.info("commandstats"))["cmdstat_evalsha"]["usec"]
    return spent_us / len(leases)


async def _run(queue: Queue, items: int) -> None:
    """Settles and claims like a worker whose `LIMIT` calls all finish at the same time."""
    capacity = Capacity(Limits({"openrouter": LIMIT, "ollama": LIMIT}), {}, 2 * LIMIT)
    result = Result(content=PROMPT, total_tokens=100, finish_reason="stop", attempts=1).to_json()
    settlements: list[Settlement] = []
    for _ in range(items // LIMIT + 1):
        leases = (await queue.settle_and_claim(settlements, capacity)).leases
        settlements = [Settlement(lease, "complete", result) for lease in leases]


async def _counts(client: redis.asyncio.Redis) -> dict[str, float]:
    info = await client.info()
    cpu_s = info["used_cpu_user"] + info["used_cpu_sys"]
    return {**info, "cpu_us": 1e6 * cpu_s}
