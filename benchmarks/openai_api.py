"""Measures what files, batches and live calls of OpenAI's API cost, beside the native API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import count

import orjson

from benchmarks.client import PROMPT, Client, batch
from benchmarks.measured_values import Figure, Sample
from benchmarks.provider import Provider
from benchmarks.systems import System, orchestrator

LIMIT, WORKERS = 100, 2
CHAT = "/v1/chat/completions"
IMAGE_LINE = 400_000  # bytes of a line with an image

_numbers = count()


@dataclass(frozen=True, slots=True)
class Sizes:
    pairs: int = 5
    lines: int = 50_000
    large_lines: int = 500  # 200 MB
    calls: int = 2000


SMOKE = Sizes(pairs=1, lines=2000, large_lines=3, calls=20)


async def openai_api(provider: Provider, sizes: Sizes) -> list[Figure]:
    provider.behave()
    uploads = await _uploads(provider, sizes)
    return [*uploads, await _memory(provider, sizes), *await _live_calls(provider, sizes)]


def openai_lines(number: int, content: str = "") -> bytes:
    """Returns requests in OpenAI's batch format, each with another text."""
    return b"".join(_line(f"{PROMPT}{next(_numbers)}{content}") for _ in range(number))


def _line(content: str) -> bytes:
    line = {
        "custom_id": f"request-{next(_numbers)}",
        "method": "POST",
        "url": CHAT,
        "body": {"model": "openrouter/m", "messages": [{"role": "user", "content": content}]},
    }
    return orjson.dumps(line) + b"\n"


async def _uploads(provider: Provider, sizes: Sizes) -> list[Figure]:
    """Compares the CPU time of creating a batch from a file and of a job with the same lines."""
    jobs, batches = list[float](), list[float]()
    for _ in range(sizes.pairs):
        body = openai_lines(sizes.lines)
        async with orchestrator(provider, LIMIT, 0) as system:
            client = Client(system.url)
            await client.upload(openai_lines(10))
            jobs.append(await _cpu_s(system, partial(client.upload, body)))
            batches.append(await _cpu_s(system, partial(client.create_batch, body)))
            await client.close()
    ratio = Sample.of([theirs / ours for ours, theirs in zip(jobs, batches, strict=True)])
    name = f"{sizes.lines:,} lines"
    return [
        Figure(f"CPU of {name} with `POST /jobs`", "s", "", {"c": Sample.of(jobs)}),
        Figure(
            f"CPU of {name} with `/v1/files` and `/v1/batches`",
            *("s", ""),
            {"c": Sample.of(batches)},
        ),
        Figure("the second ÷ the first, in pairs", "×", "≤ 2", {"c": ratio}, met=ratio.median <= 2),
    ]


async def _cpu_s(system: System, run: Callable[[], Awaitable[object]]) -> float:
    """Runs the function. Returns the CPU time that all processes of the system use meanwhile."""
    before = sum(system.processes.cpu_s().values())
    await run()
    return sum(system.processes.cpu_s().values()) - before


async def _memory(provider: Provider, sizes: Sizes) -> Figure:
    async def lines() -> AsyncIterator[bytes]:
        for _ in range(sizes.large_lines):
            yield _line("x" * IMAGE_LINE)

    growth = []
    for _ in range(sizes.pairs):
        async with orchestrator(provider, LIMIT, 0) as system:
            client = Client(system.url)
            await client.create_batch(openai_lines(10))
            idle_mb = peak_mb = system.processes.rss_mb()["api"]
            upload = asyncio.create_task(client.upload_file(lines()))
            while not upload.done():
                peak_mb = max(peak_mb, system.processes.rss_mb()["api"])
                await asyncio.wait([upload], timeout=0.02)
            await upload
            await client.close()
        growth.append(peak_mb - idle_mb)
    size_mb = sizes.large_lines * IMAGE_LINE / 1e6
    return Figure(
        f"memory of the API during the upload of {size_mb:,.0f} MB, above idle",
        *("MB", "≤ 60"),
        {"c": Sample.of(growth)},
        met=max(growth) <= 60,
    )


async def _live_calls(provider: Provider, sizes: Sizes) -> list[Figure]:
    """Compares the CPU time of a live call with a batch of one request, in pairs."""
    batches, calls = list[float](), list[float]()
    async with orchestrator(provider, LIMIT, WORKERS) as system:
        client = Client(system.url)

        async def run_batch() -> object:
            return await client.run(batch(1), 1)

        async def call() -> object:
            message = {"role": "user", "content": f"{PROMPT}{next(_numbers)}"}
            return await client.call(
                CHAT, orjson.dumps({"model": "openrouter/m", "messages": [message]})
            )

        for number in range(sizes.pairs + 1):
            measured = [
                1000 * await _cpu_s(system, partial(_many, run, sizes.calls)) / sizes.calls
                for run in (run_batch, call)
            ]
            if number:  # the first pair warms the system up
                batches.append(measured[0])
                calls.append(measured[1])
        await client.close()
    ratio = Sample.of([theirs / ours for ours, theirs in zip(batches, calls, strict=True)])
    return [
        Figure("CPU of a batch of one request", "ms", "", {"c": Sample.of(batches)}),
        Figure("CPU of a live call", "ms", "", {"c": Sample.of(calls)}),
        Figure(
            "the second ÷ the first, in pairs",
            *("×", "≤ 1.15"),
            {"c": ratio},
            met=ratio.median <= 1.15,
        ),
    ]


async def _many(run: Callable[[], Awaitable[object]], times: int, *, clients: int = 4) -> None:
    """Runs the function `times` times, with `clients` runs at once."""
    remaining = iter(range(times))

    async def runs() -> None:
        for _ in remaining:
            await run()

    await asyncio.gather(*(runs() for _ in range(clients)))
