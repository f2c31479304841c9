"""Measures large jobs of this project, and small batches that run at the same time."""

import asyncio
import hashlib
import time
from dataclasses import dataclass

from benchmarks.client import Client, batch, lines
from benchmarks.measured_values import Figure, Sample
from benchmarks.processes import until
from benchmarks.provider import Provider
from benchmarks.systems import System, orchestrator

LIMIT, CALL_MS = 10, 50
OWNERS = ("ann", "bob")


@dataclass(frozen=True, slots=True)
class Sizes:
    uploads: int = 3
    uploaded: int = 100_000  # number of lines of 2 KB in one upload
    queued: int = 50_000
    batches: int = 20
    window_s: float = 10
    windows: int = 3


SMOKE = Sizes(uploads=1, uploaded=1000, queued=500, batches=2, window_s=0.5, windows=1)


async def large_jobs(provider: Provider, sizes: Sizes) -> list[Figure]:
    keys = ",".join(f"{name}:{hashlib.sha256(name.encode()).hexdigest()}" for name in OWNERS)
    figures = await _uploads(provider, sizes)
    async with orchestrator(provider, LIMIT, 2) as system:
        figures.append(await _batch_beside_a_job(provider, sizes, system))
    async with orchestrator(provider, LIMIT, 2, API_KEYS=keys) as system:
        figures.append(await _shares(provider, sizes, system))
    return figures


async def _uploads(provider: Provider, sizes: Sizes) -> list[Figure]:
    """Measures the rate of uploads and the API's memory. Each upload has a new API process."""
    rates, memory = [], []
    body = lines(sizes.uploaded, 2000)
    for _ in range(sizes.uploads):
        async with orchestrator(provider, LIMIT, 0) as system:
            client = Client(system.url)
            idle_mb = peak_mb = system.processes.rss_mb()["api"]
            upload = asyncio.create_task(client.upload(body))
            started = time.perf_counter()
            while not upload.done():
                peak_mb = max(peak_mb, system.processes.rss_mb()["api"])
                await asyncio.wait([upload], timeout=0.02)
            rates.append(sizes.uploaded / (time.perf_counter() - started))
            memory.append(peak_mb - idle_mb)
            await upload
            await client.close()
    rate = Sample.of(rates)
    return [
        Figure(
            f"upload of {sizes.uploaded:,} lines of 2 KB",
            *("lines/s", "≥ 10,000"),
            {"c": rate},
            met=rate.median >= 10_000,
        ),
        Figure(
            "memory of the API during the upload, above idle",
            *("MB", "≤ 60"),
            {"c": Sample.of(memory)},
            met=max(memory) <= 60,
        ),
    ]


async def _batch_beside_a_job(provider: Provider, sizes: Sizes, system: System) -> Figure:
    client = Client(system.url)
    provider.behave(latency_ms=CALL_MS, ledger=False)
    await client.upload(lines(sizes.queued, 300))
    await until(lambda: bool(provider.stats()["in_flight"] == LIMIT))
    times = [1000 * await client.run(batch(5), 5) for _ in range(sizes.batches)]
    await client.close()
    sample = Sample.of(times)
    return Figure(
        f"batch of 5 beside a job of {sizes.queued:,}, limit {LIMIT}, calls of {CALL_MS} ms",
        *("ms", "≤ 150"),
        {"c": sample},
        met=max(times) <= 150,
    )


async def _shares(provider: Provider, sizes: Sizes, system: System) -> Figure:
    """Compares how many answers two owners with equally many queued items get in the same time.

    One owner submits later than the other.
    """
    provider.behave(latency_ms=CALL_MS, ledger=False)
    clients = [Client(system.url, key=name) for name in OWNERS]
    jobs = []
    for client in clients:
        jobs.append(await client.upload(lines(sizes.queued, 300)))
        await asyncio.sleep(sizes.window_s / 5)
    ratios = []
    for _ in range(sizes.windows):
        before = [await client.successful(job) for client, job in zip(clients, jobs, strict=True)]
        await asyncio.sleep(sizes.window_s)
        after = [await client.successful(job) for client, job in zip(clients, jobs, strict=True)]
        first, second = (now - then for now, then in zip(after, before, strict=True))
        ratios.append(first / second)
    for client in clients:
        await client.close()
    return Figure(
        f"answers of one owner ÷ answers of another, in {sizes.window_s:g} s",
        *("×", "0.95–1.05"),
        {"c": Sample.of(ratios)},
        met=all(0.95 <= ratio <= 1.05 for ratio in ratios),
    )
