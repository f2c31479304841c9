"""Measures how much one provider's faults slow down another provider's lane in this project."""

import asyncio
import time
from collections import defaultdict
from statistics import median
from typing import Any

from benchmarks.client import Client, batch
from benchmarks.measured_values import Figure, Sample
from benchmarks.provider import Provider
from benchmarks.systems import orchestrator

HEALTHY = {"latency_ms": 100}
FAULTS: dict[str, dict[str, Any]] = {
    "answers 429 with Retry-After": {"rate_429": 1, "retry_after": "1"},
    "answers 503": {"rate_503": 1},
    "never answers": {"rate_hang": 1},
    "drops connections": {"rate_drop": 1},
    "sends its answer drop by drop": {"rate_drip": 1},
    "answers garbage": {"rate_garbage": 1},
}


async def isolation(provider: Provider, window_s: float) -> list[Figure]:
    """Compares the calls/s of Ollama's lane while OpenRouter fails and while OpenRouter works.

    window_s: duration of each measurement.
    """
    figures = []
    async with orchestrator(provider, 5, 2, REQUEST_TIMEOUT="1", MAX_RETRIES="1") as system:
        client = Client(system.url)
        running = True

        async def keep_posting(name: str) -> None:
            while running:
                answer = await client.outcome(batch(10, provider=name))
                assert name == "openrouter" or answer == 10  # noqa: S101

        posting = [asyncio.create_task(keep_posting("ollama")) for _ in range(3)]
        posting += [asyncio.create_task(keep_posting("openrouter")) for _ in range(2)]
        for name, behaviour in FAULTS.items():
            rates = defaultdict[str, list[float]](list)
            for _ in range(2):
                for state, fault in (("healthy", {}), ("faulty", behaviour)):
                    by_dialect = {"openai": {**HEALTHY, **fault}, "ollama": HEALTHY}
                    provider.behave(by_dialect=by_dialect)
                    rates[state].append(await _rate(provider, window_s))
            ratio = median(rates["faulty"]) / median(rates["healthy"])
            figures.append(
                Figure(
                    f"calls/s of a lane while another provider {name} ÷ while it is healthy",
                    *("×", "≥ 0.95"),
                    {"c": Sample.of([ratio])},
                    met=ratio >= 0.95,
                )
            )
        running = False
        provider.behave(by_dialect={"openai": HEALTHY, "ollama": HEALTHY})
        await asyncio.gather(*posting)
        await client.close()
    return figures


async def _rate(provider: Provider, window_s: float) -> float:
    """Returns the calls/s of the healthy provider in the next `window_s` seconds."""

    def healthy_calls() -> int:
        count: int = provider.stats()["by_dialect"]["ollama"]["total"]
        return count

    await asyncio.sleep(window_s / 6)
    before, started = healthy_calls(), time.perf_counter()
    await asyncio.sleep(window_s)
    return (healthy_calls() - before) / (time.perf_counter() - started)
