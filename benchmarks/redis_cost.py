"""What Redis bears: its bytes, commands and CPU time for an item, from acceptance to its result."""

import redis.asyncio

from benchmarks.client import PROMPT
from benchmarks.figures import Figure, Sample
from benchmarks.processes import Processes, valkey
from shared.jobs import Jobs
from shared.keys import Keys
from shared.models import BatchLLMRequest, LLMRequest, Message, Role
from shared.queue import Capacity, Lease, Queue, Settlement
from shared.redis import connect
from shared.results import Result

BATCH = 100
LIMIT = 10
RENEWED = (2_000, 20_000)
RUNNING = max(RENEWED)


async def redis_cost(items: int) -> list[Figure]:
    async with valkey(Processes({})) as url:
        client = connect(url)
        queue = Queue(client, Keys(), lease_s=600)
        jobs = Jobs(queue, ttl_s=3600, max_queue_depth=items)
        empty = await _counts(client)
        await _submit(jobs, items)
        waiting = await _counts(client)
        await _run(queue, items)
        ended = await _counts(client)
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
        ("memory of a finished one, until it expires", "bytes", "used_memory", empty, ended),
        ("received by Redis", "bytes", "total_net_input_bytes", empty, ended),
        ("sent by Redis", "bytes", "total_net_output_bytes", empty, ended),
        ("commands, those within scripts included", "", "total_commands_processed", empty, ended),
        ("CPU of Redis to accept it", "µs", "cpu_us", empty, waiting),
        ("CPU of Redis to claim and to end it", "µs", "cpu_us", waiting, ended),
    ]
    lease_bytes = (running["used_memory"] - queued["used_memory"]) / len(leases)
    return [
        *(
            Figure(f"{text}, per item", unit, "", {"c": per_item(name, before, after)})
            for text, unit, name, before, after in rows
        ),
        Figure("more memory while it runs, per item", "bytes", "", {"c": Sample.of([lease_bytes])}),
        *(
            Figure(f"a renewal of {count:,} leases, per lease", "µs", "", {"c": Sample.of([cost])})
            for count, cost in zip(RENEWED, renewals, strict=True)
        ),
    ]


async def _submit(jobs: Jobs, items: int) -> None:
    for first in range(0, items, BATCH):
        requests = [
            LLMRequest(
                provider="openrouter",
                model="google/gemma-3-27b-it:free",
                messages=[Message(role=Role.USER, content=f"{PROMPT}{first + index}")],
            )
            for index in range(BATCH)
        ]
        await jobs.submit(jobs.new_id(), BatchLLMRequest(requests=requests))


async def _claim(queue: Queue, count: int) -> list[Lease]:
    leases: list[Lease] = []
    while len(leases) < count:
        capacity = Capacity({"openrouter": count}, {}, count - len(leases), 0)
        leases += (await queue.exchange([], capacity)).leases
    return leases


async def _renewal_us(client: redis.asyncio.Redis, queue: Queue, leases: list[Lease]) -> float:
    """Time in the script, by Redis's own count."""
    await client.config_resetstat()
    await queue.renew("worker", leases)
    spent_us: float = (await client.info("commandstats"))["cmdstat_evalsha"]["usec"]
    return spent_us / len(leases)


async def _run(queue: Queue, items: int) -> None:
    """As a worker with so many slots does when all its calls end together."""
    capacity = Capacity({"openrouter": LIMIT, "ollama": LIMIT}, {}, 2 * LIMIT, 0)
    result = Result(content=PROMPT, total_tokens=100, finish_reason="stop", attempts=1).to_json()
    settlements: list[Settlement] = []
    for _ in range(items // LIMIT + 1):
        leases = (await queue.exchange(settlements, capacity)).leases
        settlements = [Settlement(lease, "end", result) for lease in leases]


async def _counts(client: redis.asyncio.Redis) -> dict[str, float]:
    info = await client.info()
    cpu_s = info["used_cpu_user"] + info["used_cpu_sys"]
    return {**info, "cpu_us": 1e6 * cpu_s}
