"""System (c) alone: what a lane feels of the troubles of another one's provider."""

import asyncio
import time
from collections import defaultdict
from statistics import median
from typing import Any

from benchmarks.client import Client, batch
from benchmarks.figures import Figure, Sample
from benchmarks.provider import Provider
from benchmarks.systems import orchestrator

HEALTHY = {"latency_ms": 100}
TROUBLES: dict[str, dict[str, Any]] = {
    "429 with Retry-After": {"rate_429": 1, "retry_after": "1"},
    "503": {"rate_503": 1},
    "hangs": {"rate_hang": 1},
    "drops": {"rate_drop": 1},
    "drips": {"rate_drip": 1},
    "garbage": {"rate_garbage": 1},
}


async def isolation(provider: Provider, window_s: float) -> list[Figure]:
    """Calls per second of a lane while the other one's provider is in trouble, against health."""
    figures = []
    async with orchestrator(provider, 5, 2, REQUEST_TIMEOUT="1", MAX_RETRIES="1") as system:
        client = Client(system.url)
        going_on = True

        async def keep_posting(name: str) -> None:
            while going_on:
                answer = await client.outcome(batch(10, provider=name))
                assert name == "openrouter" or answer == 10  # noqa: S101

        posting = [asyncio.create_task(keep_posting("ollama")) for _ in range(3)]
        posting += [asyncio.create_task(keep_posting("openrouter")) for _ in range(2)]
        for name, trouble in TROUBLES.items():
            rates = defaultdict[str, list[float]](list)
            for _ in range(2):
                for state, fault in (("health", {}), ("trouble", trouble)):
                    by_dialect = {"openrouter": {**HEALTHY, **fault}, "ollama": HEALTHY}
                    provider.behave(by_dialect=by_dialect)
                    rates[state].append(await _rate(provider, window_s))
            ratio = median(rates["trouble"]) / median(rates["health"])
            figures.append(
                Figure(
                    f"a lane beside one with {name}: its calls/s ÷ those beside a healthy one",
                    *("×", "≥ 0.95"),
                    {"c": Sample.of([ratio])},
                    met=ratio >= 0.95,
                )
            )
        going_on = False
        provider.behave(by_dialect={"openrouter": HEALTHY, "ollama": HEALTHY})
        await asyncio.gather(*posting)
        await client.close()
    return figures


async def _rate(provider: Provider, window_s: float) -> float:
    def healthy_calls() -> int:
        count: int = provider.stats()["by_dialect"]["ollama"]["total"]
        return count

    await asyncio.sleep(window_s / 6)
    before, started = healthy_calls(), time.perf_counter()
    await asyncio.sleep(window_s)
    return (healthy_calls() - before) / (time.perf_counter() - started)
