"""Sends a million items (`--items`) at full speed, and checks memory and the keys in Redis.

Memory must not grow, and no key may remain after the results have expired.
"""

import asyncio
import time
from collections import defaultdict
from statistics import median

import redis.asyncio

from benchmarks.client import Client, batch
from benchmarks.measured_values import Figure, Sample
from benchmarks.provider import Provider
from benchmarks.systems import System, orchestrator

CLIENTS, DISTINCT, TTL_S, SAMPLE_S = 8, 1000, 30, 2.0


async def soak(provider: Provider, items: int) -> list[Figure]:
    async with orchestrator(provider, 100, 2, RESULT_TTL_SECONDS=str(TTL_S)) as system:
        provider.behave()
        bodies = [batch(100, distinct=DISTINCT) for _ in range(DISTINCT // 100)]
        batches, memory = iter(range(items // 100)), defaultdict[str, list[float]](list)
        sampling = asyncio.create_task(_sample(system, memory))
        started, cpu = time.perf_counter(), system.processes.cpu_s()
        client = Client(system.url)

        async def post() -> None:
            for number in batches:
                await client.run(bodies[number % len(bodies)], 100)

        await asyncio.gather(*(post() for _ in range(CLIENTS)))
        wall_s = time.perf_counter() - started
        cpu_s = sum(after - cpu[role] for role, after in system.processes.cpu_s().items())
        sampling.cancel()
        await client.close()
        await asyncio.sleep(TTL_S + 5)
        left = await _left(system)
    growth = {role: _growth(values) for role, values in memory.items()}
    return [
        Figure("items per second", "/s", "", {"c": Sample.of([items / wall_s])}),
        Figure("CPU per item", "ms", "", {"c": Sample.of([1000 * cpu_s / items])}),
        *(
            Figure(
                f"{role}: memory in the second half",
                *("MB", "flat (± 5 %)"),
                {"c": Sample.of(values[len(values) // 2 :])},
                met=abs(growth[role]) <= 0.05,
            )
            for role, values in memory.items()
        ),
        Figure(
            "keys left after the results have expired",
            *("", "0"),
            {"c": Sample.of([left])},
            met=left == 0,
        ),
    ]


async def _sample(system: System, memory: dict[str, list[float]]) -> None:
    while True:
        for role, rss_mb in system.processes.rss_mb().items():
            memory[role].append(rss_mb)
        await asyncio.sleep(SAMPLE_S)


def _growth(values: list[float]) -> float:
    """Returns the growth of the median from the third quarter to the last, as a fraction."""
    quarter = max(1, len(values) // 4)
    return median(values[-quarter:]) / median(values[-2 * quarter : -quarter] or values) - 1


async def _left(system: System) -> int:
    """Returns the number of keys in Redis, except the key that lists the workers."""
    server = redis.asyncio.from_url(system.redis_url)  # type: ignore[no-untyped-call]
    left = [key async for key in server.scan_iter() if not key.endswith(b":workers")]
    await server.aclose()
    return len(left)
