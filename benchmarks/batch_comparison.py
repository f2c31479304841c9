"""Compares a batch through `/v1/batches` with the same calls through LiteLLM's proxy."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson
import psutil
from rich.console import Console

from benchmarks.client import Client
from benchmarks.fan_out import fan_out
from benchmarks.fault_situations import Situation
from benchmarks.litellm import litellm, missing
from benchmarks.openai_api import LIMIT, WORKERS, openai_lines
from benchmarks.provider import Provider
from benchmarks.systems import orchestrator

MAX_S = 1800.0
_HEAD = ["system", "wall time", "ideal", "CPU", "of the client", "peak of calls", "answered"]


@dataclass(frozen=True, slots=True)
class Sizes:
    lines: int = 10_000
    call_ms: int = 200
    warm: int = 200


SMOKE = Sizes(lines=100, call_ms=20, warm=10)


@dataclass(frozen=True, slots=True)
class BatchRun:
    wall_s: float
    cpu_s: float
    client_cpu_s: float
    peak: int
    answered: int


async def batch_comparison(provider: Provider, console: Console, sizes: Sizes) -> list[str]:
    """Returns the lines of a table in Markdown.

    If LiteLLM's proxy is not installed, it has no row, and the last line gives the reason.
    """
    found = {"this project, `/v1/batches`": await _batch(provider, sizes)}
    console.log(found)
    reason = missing()
    if reason is None:
        found["LiteLLM's proxy, a call per line"] = await _calls(provider, sizes)
        console.log(found)
    ideal_s = sizes.lines * sizes.call_ms / 1000 / LIMIT
    rows = [
        [
            name,
            f"{outcome.wall_s:.1f} s",
            f"{ideal_s:.1f} s",
            f"{outcome.cpu_s:.1f} s",
            f"{outcome.client_cpu_s:.1f} s",
            f"{outcome.peak}",
            f"{outcome.answered:,} of {sizes.lines:,}",
        ]
        for name, outcome in found.items()
    ]
    table = [f"| {' | '.join(cells)} |" for cells in (_HEAD, ["---"] * len(_HEAD), *rows)]
    return [*table, *([f"\nLiteLLM was not measured: {reason}"] if reason else [])]


async def _batch(provider: Provider, sizes: Sizes) -> BatchRun:
    async with orchestrator(provider, LIMIT, WORKERS) as system:
        client = Client(system.url)
        await client.batch_answers(openai_lines(sizes.warm))
        body = openai_lines(sizes.lines)

        async def run() -> int:
            return await client.batch_answers(body)

        outcome = await _measured(
            provider, sizes, run, lambda: sum(system.processes.cpu_s().values())
        )
        await client.close()
    return outcome


async def _calls(provider: Provider, sizes: Sizes) -> BatchRun:
    """Calls LiteLLM's proxy for each line, with `LIMIT` calls at once, as many as the batch has."""
    model = Situation("", 0, 0, timeout_s=60)
    async with litellm(provider.url, [model], limit=LIMIT) as proxy:

        async def call(lines: bytes) -> int:
            bodies = [orjson.loads(line)["body"] for line in lines.splitlines()]
            items = [("s0", body["messages"][0]["content"]) for body in bodies]
            return await fan_out(
                proxy.url, items, limit=LIMIT, retries=2, timeout_s=600, max_s=MAX_S
            )

        await call(openai_lines(sizes.warm))
        body = openai_lines(sizes.lines)
        process = psutil.Process(proxy.pid)

        def cpu_s() -> float:
            family = [process, *process.children(recursive=True)]
            return sum(sum(member.cpu_times()[:2]) for member in family)

        return await _measured(provider, sizes, lambda: call(body), cpu_s)


async def _measured(
    provider: Provider,
    sizes: Sizes,
    run: Callable[[], Awaitable[int]],
    cpu_s: Callable[[], float],
) -> BatchRun:
    provider.behave(latency_ms=sizes.call_ms)
    cpu_before, client_before, started = cpu_s(), time.process_time(), time.perf_counter()
    answered = await run()
    return BatchRun(
        wall_s=time.perf_counter() - started,
        cpu_s=cpu_s() - cpu_before,
        client_cpu_s=time.process_time() - client_before,
        peak=provider.stats()["peak"],
        answered=answered,
    )
