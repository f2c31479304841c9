"""Compares what a provider's faults cost: this project, LiteLLM's proxy, and a script."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import orjson
import psutil
from rich.console import Console

from benchmarks.client import Client
from benchmarks.fan_out import fan_out
from benchmarks.fault_situations import LIMIT, SITUATIONS, Situation
from benchmarks.litellm import litellm, missing
from benchmarks.provider import Provider
from benchmarks.report import provenance
from benchmarks.systems import orchestrator

MAX_S = 60.0  # limit of a run; items without an answer then count as lost
_POLL_S = 0.05

NAMES = {
    "this project": "API, two workers, embedded Valkey; the job is sent with `POST /jobs`",
    "LiteLLM": "LiteLLM's proxy (`num_retries: 3`, the same limit, time-out and rpm), called by a"
    " script with 10 calls at once and 2 retries, as OpenAI's client makes",
    "script": "`asyncio.Semaphore(10)`, httpx, 3 retries with back-off and `Retry-After`",
}

Run = Callable[[], Awaitable[int]]
Start = Callable[[Situation, str], AbstractAsyncContextManager[Run]]


@dataclass(frozen=True, slots=True)
class SituationRun:
    """Holds what a system needed for a situation.

    failed: number of calls that did not get a 200.
    lost: number of items without an answer.
    """

    wall_s: float
    calls: int
    failed: int
    lost: int

    @property
    def cells(self) -> list[str]:
        wall = f"over {MAX_S:.0f} s" if self.wall_s >= MAX_S else f"{self.wall_s:.1f} s"
        return [wall, f"{self.calls}", f"{self.failed}", f"{self.lost}"]


async def provider_faults(
    provider: Provider, console: Console, situations: Sequence[Situation] = SITUATIONS
) -> str:
    """Runs all situations with each system. Returns the text of PROVIDERS.md."""
    found: dict[str, list[SituationRun]] = {name: [] for name in NAMES}
    reason, load = missing(), psutil.getloadavg()[0]
    async with AsyncExitStack() as exits:
        systems: dict[str, Start] = {"this project": _orchestrator(provider)}
        if reason is None:
            proxy = await exits.enter_async_context(litellm(provider.url, situations))
            provider.behave()
            warm = [("s0", f"{n}") for n in range(50)]
            await fan_out(proxy.url, warm, limit=LIMIT, retries=2, timeout_s=60, max_s=MAX_S)
            systems["LiteLLM"] = _fan_out(proxy.url, retries=2, timeout_s=600)
        systems["script"] = _fan_out(f"{provider.url}/v1", retries=3)
        for number, situation in enumerate(situations):
            for name, start in systems.items():
                async with start(situation, f"s{number}") as run:
                    outcome = await _measured(provider, run, situation)
                console.log(name, situation.name, *outcome.cells, markup=False)
                found[name].append(outcome)
    return _report(situations, found, reason, load)


async def _measured(provider: Provider, run: Run, situation: Situation) -> SituationRun:
    provider.behave(**situation.behaviour)

    async def fail() -> None:
        if situation.fault:
            await asyncio.sleep(situation.fault_after_s)
            await asyncio.to_thread(provider.change, **situation.fault)

    started, failing = time.perf_counter(), asyncio.create_task(fail())
    answered = await run()
    wall_s = time.perf_counter() - started
    failing.cancel()
    stats = provider.stats()
    failed = stats["total"] - stats["answers"].get("200", 0)
    return SituationRun(wall_s, stats["total"], failed, situation.items - answered)


def _fan_out(url: str, *, retries: int, timeout_s: float | None = None) -> Start:
    @asynccontextmanager
    async def start(situation: Situation, model: str) -> AsyncIterator[Run]:
        async def run() -> int:
            calls = fan_out(
                url,
                situation.requests(model),
                limit=LIMIT,
                retries=retries,
                timeout_s=timeout_s or situation.timeout_s,
                max_s=MAX_S,
            )
            return await calls

        yield run

    return start


def _orchestrator(provider: Provider) -> Start:
    @asynccontextmanager
    async def start(situation: Situation, model: str) -> AsyncIterator[Run]:
        settings = {"REQUEST_TIMEOUT": f"{situation.timeout_s:g}"}
        if situation.rpm:
            settings["OPENROUTER_RPM"] = str(situation.rpm)
        async with orchestrator(provider, LIMIT, 2, **settings) as system:
            client = Client(system.url)

            async def run() -> int:
                lines = (_line(*request) for request in situation.requests(model))
                job_id = await client.upload(b"".join(lines))
                end = time.perf_counter() + MAX_S
                while True:
                    job = await client.job(job_id)
                    # The items of the limited model wait until the run ends.
                    if job["successful"] + job["failed"] >= situation.items:
                        break
                    if time.perf_counter() > end:
                        break
                    await asyncio.sleep(_POLL_S)
                answered: int = job["successful"]
                return answered

            yield run
            await client.close()

    return start


def _line(model: str, prompt: str) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    return orjson.dumps({"provider": "openrouter", "model": model, "messages": messages}) + b"\n"


def _report(
    situations: Sequence[Situation],
    found: dict[str, list[SituationRun]],
    missing_reason: str | None,
    load: float,
) -> str:
    rows = []
    for number, situation in enumerate(situations):
        name = f"{situation.name} (ideal: {situation.ideal_s:g} s)"
        for system, outcomes in found.items():
            if outcomes:
                rows.append(f"| {' | '.join([name, system, *outcomes[number].cells])} |")
                name = ""
    return "\n".join(
        [
            "# Faults of providers",
            "",
            *provenance("python -m benchmarks providers"),
            f"Load of the machine before the run: {load:.1f}.",
            "",
            *(f"- **{name}**: {text}" for name, text in NAMES.items()),
            *([f"- LiteLLM was not measured: {missing_reason}"] if missing_reason else []),
            "",
            "Each system sends the same items to the same simulator, with 10 calls at once. A",
            f"run ends when all items are answered or have failed, or after {MAX_S:.0f} s. The",
            "simulator counts the calls. A lost item has failed for good, or has no answer at the",
            "end. The ideal is the time without a wasted call.",
            "",
            "| situation | system | wall time | calls | failed calls | lost items |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
