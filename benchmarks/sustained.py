"""Runs for ten minutes (`--minutes`) with a limit of ten calls at once.

Two of the four workers and the API process are replaced during the run.
"""

import asyncio
import time
from contextlib import suppress

import httpx

from benchmarks.client import Client, batch
from benchmarks.measured_values import Figure, Sample
from benchmarks.provider import Provider
from benchmarks.systems import System, orchestrator

LIMIT, CALL_MS = 10, 200


async def sustained(provider: Provider, minutes: float) -> list[Figure]:
    items = int(minutes * 60 * LIMIT * 1000 / CALL_MS / 100) * 100
    ideal_s = items * CALL_MS / 1000 / LIMIT
    async with orchestrator(provider, LIMIT, 4) as system:
        workers = [process.pid for process in system.processes.by_role["worker"]]
        [api] = [process.pid for process in system.processes.by_role["api"]]
        provider.behave(latency_ms=CALL_MS)
        client = Client(system.url)
        started = time.perf_counter()
        jobs = [await client.submit(batch(100)) for _ in range(items // 100)]
        await client.close()
        for pid in workers[:2]:
            await asyncio.sleep(ideal_s / 4)
            await system.add_worker()
            await system.processes.stop("worker", pid)
        await asyncio.sleep(ideal_s / 8)
        await system.add_api()
        await system.processes.stop("api", api)
        answered = await _answered(system, jobs)
        stats = provider.stats()
    wall_s = (max(ended for _, ended in answered) - started) if answered else 0
    ratio, failed = wall_s / ideal_s, items - sum(count for count, _ in answered)
    return [
        Figure("calls", "", "", {"c": Sample.of([stats["total"]])}),
        Figure("items without an answer", "", "0", {"c": Sample.of([failed])}, met=failed == 0),
        Figure(
            "calls made twice",
            *("", "0"),
            {"c": Sample.of([stats["total"] - items])},
            met=stats["total"] == items,
        ),
        Figure(
            "peak concurrent calls",
            *("", str(LIMIT)),
            {"c": Sample.of([stats["peak"]])},
            met=stats["peak"] == LIMIT,
        ),
        Figure(
            f"wall time ÷ ideal {ideal_s:.0f} s",
            *("×", "≤ 1.03"),
            {"c": Sample.of([ratio])},
            met=ratio <= 1.03,
        ),
    ]


async def _answered(system: System, jobs: list[str]) -> list[tuple[int, float]]:
    """Waits for all jobs. Returns the number of answered items and the end time of each job.

    The end time is when polling finds that the job has ended. The jobs are polled one after
    another.
    """
    answered = []
    async with httpx.AsyncClient(base_url=system.url, timeout=60) as client:
        for job_id in jobs:
            while True:
                with suppress(httpx.TransportError):
                    job = (await client.get(f"/jobs/{job_id}")).json()
                    if job.get("finished_at"):
                        answered.append((job["successful"], time.perf_counter()))
                        break
                await asyncio.sleep(0.02)
    return answered
