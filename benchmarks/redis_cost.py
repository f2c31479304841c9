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
        figures = [
            *await _item_figures(client, queue, jobs, items),
            *await _fairness_figures(client, queue, jobs),
            *await _lease_figures(client, queue, jobs),
        ]
        await client.aclose()
    return figures


async def _item_figures(
    client: redis.asyncio.Redis, queue: Queue, jobs: Jobs, items: int
) -> list[Figure]:
    """Measures what `items` cost from their acceptance to their results."""
    empty = await _counts(client)
    await _submit(jobs, items)
    waiting = await _counts(client)
    await _run(queue, items)
    finished = await _counts(client)
    memory, received, sent = "used_memory", "total_net_input_bytes", "total_net_output_bytes"
    commands = "total_commands_processed"
    rows = [
        ("memory of a waiting item", "bytes", memory, empty, waiting),
        ("memory of a finished item, until its results expire", "bytes", memory, empty, finished),
        ("received by Redis", "bytes", received, empty, finished),
        ("sent by Redis", "bytes", sent, empty, finished),
        ("commands, including those inside scripts", "", commands, empty, finished),
        ("CPU of Redis to accept an item", "µs", "cpu_us", empty, waiting),
        ("CPU of Redis to claim and settle an item", "µs", "cpu_us", waiting, finished),
    ]
    return [
        _figure(f"{text}, per item", unit, [(after[name] - before[name]) / items])
        for text, unit, name, before, after in rows
    ]


async def _fairness_figures(client: redis.asyncio.Redis, queue: Queue, jobs: Jobs) -> list[Figure]:
    """Compares a queue of one job, which needs no choice, with a queue of many jobs and owners."""
    rounds = defaultdict[tuple[int, int], list[float]](list)
    for _ in range(REPEATS):
        for slots in (LIMIT, 1):
            for many in (1, JOBS):
                spent_us = await _round_us(client, queue, jobs, many, slots)
                rounds[slots, many].append(spent_us / slots)
    return [
        _figure(
            f"script that settles and claims {slots} at a time, per item: {queued} queued",
            "µs",
            rounds[slots, many],
        )
        for slots in (LIMIT, 1)
        for many, queued in ((1, "one job"), (JOBS, f"{JOBS:,} jobs of {OWNERS} owners"))
    ]


async def _lease_figures(client: redis.asyncio.Redis, queue: Queue, jobs: Jobs) -> list[Figure]:
    await _submit(jobs, RUNNING)
    queued = await _counts(client)
    leases = await _claim(queue, RUNNING)
    running = await _counts(client)
    lease_bytes = (running["used_memory"] - queued["used_memory"]) / len(leases)
    renewals = [await _renewal_us(client, queue, leases[:count]) for count in RENEWED]
    return [
        _figure("additional memory while an item runs, per item", "bytes", [lease_bytes]),
        *(
            _figure(f"renewal of {count:,} leases, per lease", "µs", [cost])
            for count, cost in zip(RENEWED, renewals, strict=True)
        ),
    ]


def _figure(text: str, unit: str, values: list[float]) -> Figure:
    return Figure(text, unit, "", {"c": Sample.of(values)})


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


async def _round_us(
    client: redis.asyncio.Redis, queue: Queue, jobs: Jobs, waiting: int, slots: int
) -> float:
    """Returns the µs that Redis spends in a round that settles and claims `slots` items.

    Deletes all data in Redis at the end.

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
