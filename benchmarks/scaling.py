"""Measures how this project's costs depend on queued items, calls in flight and workers."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

import redis.asyncio

from benchmarks.client import Client, batch
from benchmarks.measured_values import Figure, Sample
from benchmarks.processes import until
from benchmarks.provider import Provider
from benchmarks.systems import System, orchestrator

CALL_MS, LIMIT = 20, 20


@dataclass(frozen=True, slots=True)
class Sizes:
    repeats: int = 3
    backlogs: tuple[int, int] = (1_000, 100_000)
    drained: int = 5_000
    in_flight: int = 2_000
    singles: int = 200
    fixed_work: int = 2_000
    workers: tuple[int, ...] = (1, 2, 4, 8)
    idle_s: float = 20


SMOKE = Sizes(
    repeats=1,
    backlogs=(100, 500),
    drained=200,
    in_flight=100,
    singles=3,
    fixed_work=200,
    workers=(1, 2),
    idle_s=1,
)


async def backlog(provider: Provider, sizes: Sizes) -> list[Figure]:
    """Compares the time and CPU time per item with few and with many items in the queue."""
    cpu, took = defaultdict[int, list[float]](list), defaultdict[int, list[float]](list)
    async with _queues(provider, sizes) as systems:
        for _ in range(sizes.repeats):
            for waiting, system in systems.items():
                await _drain(provider, sizes, system, cpu[waiting], took[waiting])
    few, many = sizes.backlogs
    ratios = {
        "CPU": median(cpu[many]) / median(cpu[few]),
        "time": median(took[many]) / median(took[few]),
    }
    rows = [
        Figure(f"{kind} per item, {waiting:,} queued", "ms", "", {"c": Sample.of(values[waiting])})
        for kind, values in (("CPU", cpu), ("time", took))
        for waiting in sizes.backlogs
    ]
    return [
        *rows,
        *(
            Figure(
                f"{kind} per item, {many:,} queued ÷ {few:,} queued",
                *("×", "0.90–1.10"),
                {"c": Sample.of([ratio])},
                met=ratio <= 1.1,
            )
            for kind, ratio in ratios.items()
        ),
    ]


@asynccontextmanager
async def _queues(provider: Provider, sizes: Sizes) -> AsyncIterator[dict[int, System]]:
    """Yields a deployment for each queue length. The queues are filled, and no worker runs.

    Each queue has enough further items for all repeats.
    """
    more = sizes.repeats * (2 * sizes.drained)
    few, many = sizes.backlogs
    depth = str(2 * (many + more))
    async with (
        orchestrator(provider, 100, 0, MAX_QUEUE_DEPTH=depth) as one,
        orchestrator(provider, 100, 0, MAX_QUEUE_DEPTH=depth) as other,
    ):
        for system, waiting in ((one, few), (other, many)):
            client = Client(system.url)
            await client.submit_many(waiting + more)
            await client.close()
        yield {few: one, many: other}


async def _drain(
    provider: Provider, sizes: Sizes, system: System, cpu: list[float], took: list[float]
) -> None:
    provider.behave()
    pid = await system.add_worker()

    def called(count: int) -> bool:
        return bool(provider.stats()["total"] >= count)

    await until(lambda: called(sizes.drained // 5))
    began, started = provider.stats()["total"], time.perf_counter()
    before = system.processes.cpu_s()
    await until(lambda: called(began + sizes.drained))
    items, after = provider.stats()["total"] - began, system.processes.cpu_s()
    took.append(1000 * (time.perf_counter() - started) / items)
    cpu.append(1000 * sum(after[role] - before[role] for role in ("worker", "redis")) / items)
    await system.processes.stop("worker", pid)


async def in_flight(provider: Provider, sizes: Sizes) -> list[Figure]:
    """Measures the memory that many open calls take in a worker.

    Also measures how long single requests in another lane take meanwhile.
    """
    settings = {
        "WORKER_MAX_JOBS": str(2 * sizes.in_flight),
        "REQUEST_TIMEOUT": "300",
        "SHUTDOWN_GRACE_SECONDS": "0",
    }
    async with orchestrator(provider, sizes.in_flight, 1, **settings) as system:
        client = Client(system.url)
        provider.behave(by_dialect={"openai": {"latency_ms": 120_000, "ledger": False}})
        idle_ms = await _singles(client, sizes)
        idle_mb = system.processes.rss_mb()["worker"]
        await client.submit_many(sizes.in_flight)
        await until(lambda: bool(provider.stats()["in_flight"] == sizes.in_flight))
        busy_ms = await _singles(client, sizes)
        memory_mb = system.processes.rss_mb()["worker"] - idle_mb
        await client.close()
    return [
        Figure(
            f"memory of a worker with {sizes.in_flight:,} calls in flight, above idle",
            *("MB", "≤ 40"),
            {"c": Sample.of([memory_mb])},
            met=memory_mb <= 40,
        ),
        Figure("batch of one in an idle worker: p50", "ms", "", {"c": idle_ms}),
        Figure(
            f"batch of one beside {sizes.in_flight:,} calls in flight: p50",
            *("ms", "unchanged (± 10 %)"),
            {"c": busy_ms},
            met=busy_ms.median <= 1.1 * idle_ms.median,
        ),
    ]


async def _singles(client: Client, sizes: Sizes) -> Sample:
    for _ in range(3):
        await client.run(batch(1, provider="ollama"), 1)
    times = [await client.run(batch(1, provider="ollama"), 1) for _ in range(sizes.singles)]
    return Sample.of([1000 * took_s for took_s in times])


@dataclass(frozen=True, slots=True)
class Scaled:
    workers: int
    commands_per_item: float
    scripts_per_item: float
    wall_to_ideal: float


async def more_workers(provider: Provider, sizes: Sizes) -> list[Scaled]:
    """Measures the same work with different numbers of workers."""
    scaled = []
    for workers in sizes.workers:
        async with orchestrator(provider, LIMIT, workers) as system:
            client, server = Client(system.url), redis.asyncio.from_url(system.redis_url)  # type: ignore[no-untyped-call]
            provider.behave(latency_ms=CALL_MS)
            await client.run(batch(100), 100)
            before, started = await _counts(server), time.perf_counter()
            batches = sizes.fixed_work // 100
            await asyncio.gather(*(client.run(batch(100), 100) for _ in range(batches)))
            wall_s = time.perf_counter() - started
            after = await _counts(server)
            commands, scripts = (
                (now - then) / sizes.fixed_work for now, then in zip(after, before, strict=True)
            )
            ideal_s = sizes.fixed_work * CALL_MS / 1000 / LIMIT
            scaled.append(Scaled(workers, commands, scripts, wall_s / ideal_s))
            await client.close()
            await server.aclose()
    return scaled


async def _counts(server: redis.asyncio.Redis) -> tuple[int, int]:
    """Returns the number of commands and of scripts that Redis has executed.

    The commands include the commands inside scripts.
    """
    commands = (await server.info("stats"))["total_commands_processed"]
    return commands, (await server.info("commandstats"))["cmdstat_evalsha"]["calls"]


def scaled_figures(scaled: list[Scaled]) -> list[Figure]:
    per_item = [run.commands_per_item for run in scaled]
    spread = max(per_item) / min(per_item)
    workers = " → ".join(str(run.workers) for run in scaled)
    return [
        Figure(
            f"Redis commands per item, including those inside scripts, {workers} workers: "
            + " → ".join(f"{count:.1f}" for count in per_item),
            *("max ÷ min", "≤ 1.22 (± 10 %)"),
            {"c": Sample.of([spread])},
            met=spread <= 1.1 / 0.9,
        ),
        *(
            Figure(f"{what}, {workers} workers: " + " → ".join(values), "", "", {})
            for what, values in (
                ("scripts per item", [f"{run.scripts_per_item:.2f}" for run in scaled]),
                ("wall time ÷ ideal", [f"{run.wall_to_ideal:.3f}" for run in scaled]),
            )
        ),
    ]


async def idle(provider: Provider, sizes: Sizes) -> list[Figure]:
    """Measures the CPU time of a worker that has no items to run."""
    async with orchestrator(provider, LIMIT, 1) as system:
        before, started = system.processes.cpu_s()["worker"], time.perf_counter()
        await asyncio.sleep(sizes.idle_s)
        spent = system.processes.cpu_s()["worker"] - before
        percent = 100 * spent / (time.perf_counter() - started)
    return [
        Figure(
            "CPU of an idle worker",
            *("% of a core", "≤ 0.3"),
            {"c": Sample.of([percent])},
            met=percent <= 0.3,
        )
    ]
