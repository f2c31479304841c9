"""Compares the systems (a), (b) and (c) of `systems.py`.

They run batches, single requests, full load, and batches with a limit of ten calls at once.
"""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass

from benchmarks.client import Client, batch
from benchmarks.measured_values import Figure, Sample
from benchmarks.provider import Provider
from benchmarks.systems import SYSTEMS, System

LIMIT = 100
LIMITED, CALL_MS = 10, 50


@dataclass(frozen=True, slots=True)
class Sizes:
    repeats: int = 3
    batches: int = 15
    slow_batches: int = 4
    singles: int = 20
    saturated_s: float = 3
    limited_items: int = 1000
    workers: tuple[int, int] = (2, 4)  # with batches, and with a limit of ten calls


SMOKE = Sizes(
    repeats=1,
    batches=2,
    slow_batches=1,
    singles=2,
    saturated_s=0.3,
    limited_items=100,
    workers=(1, 2),
)


class Comparison:
    """Measures the three systems. Each repeat starts every system in turn, and warms it up."""

    def __init__(self, provider: Provider, sizes: Sizes) -> None:
        self._provider = provider
        self._sizes = sizes
        self._measured: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.cpu_ms: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.rss_mb: dict[str, dict[str, float]] = {}

    async def run(self) -> None:
        few, many = self._sizes.workers
        for _ in range(self._sizes.repeats):
            for name, start in SYSTEMS.items():
                async with start(self._provider, LIMIT, few) as system:
                    await self._batches(name, system)
                async with start(self._provider, LIMITED, many) as system:
                    await self._limited(name, system)

    async def _batches(self, name: str, system: System) -> None:
        client, measured = Client(system.url), self._measured[name]
        self._provider.behave()
        for _ in range(3):
            await client.run(batch(100), 100)
        for _ in range(self._sizes.batches):
            measured["batch"].append(1000 * await client.run(batch(100), 100))
        await self._singles(name, client)
        await self._saturate(name, system, client)
        self._provider.behave(latency_ms=200)
        for _ in range(self._sizes.slow_batches):
            measured["slow batch"].append(1000 * await client.run(batch(100), 100))
        self.rss_mb[name] = system.processes.rss_mb()
        await client.close()

    async def _singles(self, name: str, client: Client) -> None:
        direct = Client(self._provider.url)
        for _ in range(self._sizes.singles):
            with_queue = 1000 * await client.run(batch(1), 1)
            body = b'{"model":"m","messages":[{"role":"user","content":"direct"}]}'
            without = 1000 * await direct.call("/api/v1/chat/completions", body)
            self._measured[name]["single"].append(with_queue - without)
        await direct.close()

    async def _saturate(self, name: str, system: System, client: Client) -> None:
        done = 0
        started, cpu = time.perf_counter(), system.processes.cpu_s()
        stop = started + self._sizes.saturated_s

        async def keep_posting() -> None:
            nonlocal done
            while time.perf_counter() < stop:
                await client.run(batch(100), 100)
                done += 100

        await asyncio.gather(*(keep_posting() for _ in range(4)))
        self._measured[name]["rate"].append(done / (time.perf_counter() - started))
        spent = {role: after - cpu[role] for role, after in system.processes.cpu_s().items()}
        for role, seconds in spent.items():
            self.cpu_ms[name][role].append(1000 * seconds / done)
        self._measured[name]["cpu"].append(1000 * sum(spent.values()) / done)

    async def _limited(self, name: str, system: System) -> None:
        items = self._sizes.limited_items
        client = Client(system.url)
        self._provider.behave(latency_ms=CALL_MS)
        await client.run(batch(20), 20)
        self._provider.behave(latency_ms=CALL_MS)
        started = time.perf_counter()
        await asyncio.gather(*(client.run(batch(100), 100) for _ in range(items // 100)))
        wall_s = time.perf_counter() - started
        ideal_s = items * CALL_MS / 1000 / LIMITED
        self._measured[name]["wall"].append(wall_s / ideal_s)
        self._measured[name]["peak"].append(self._provider.stats()["peak"])
        await client.close()

    def sample(self, system: str, name: str) -> Sample:
        return Sample.of(self._measured[system][name])

    def figures(self) -> list[Figure]:
        def of(system: str, name: str) -> float:
            return self.sample(system, name).median

        batch_ms, slow_ms = of("c", "batch"), of("c", "slow batch")
        rows = [
            (
                *("batch", "batch of 100, the provider answers at once: p50", "ms"),
                *("≤ 45 and ≤ 1/3 of (a)", batch_ms <= min(45, of("a", "batch") / 3)),
            ),
            (
                *("slow batch", "batch of 100, the provider takes 200 ms: p50", "ms"),
                *("≤ 235 and ≤ 1/5 of (a)", slow_ms <= min(235, of("a", "slow batch") / 5)),
            ),
            (
                *("single", "batch of one: time added to the call, p50", "ms"),
                *("≤ 4", of("c", "single") <= 4),
            ),
            (
                *("rate", "4 clients × batches of 100: requests/s", "/s"),
                *("≥ 2,500", of("c", "rate") >= 2500),
            ),
            (
                *("cpu", "CPU per request, API + workers + Redis", "ms"),
                *("≤ 0.50", of("c", "cpu") <= 0.5),
            ),
            (
                *("wall", "1,000 calls of 50 ms, limit 10, 4 workers: wall time ÷ ideal", "×"),
                *("≤ 1.03", of("c", "wall") <= 1.03),
            ),
            (
                *("peak", "peak concurrent calls (limit 10)", ""),
                *("10", set(self.sample("c", "peak").values) == {LIMITED}),
            ),
        ]
        return [
            Figure(text, unit, target, {s: self.sample(s, name) for s in SYSTEMS}, met)
            for name, text, unit, target, met in rows
        ]
