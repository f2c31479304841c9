"""Compares the cost of requests in OpenAI's batch format with the cost of native requests."""

from dataclasses import dataclass
from itertools import count

import orjson

from benchmarks.client import PROMPT, Client
from benchmarks.measured_values import Figure, Sample
from benchmarks.provider import Provider
from benchmarks.systems import System, orchestrator

LIMIT, WORKERS = 100, 2

_numbers = count()


@dataclass(frozen=True, slots=True)
class Sizes:
    pairs: int = 10
    requests: int = 3000  # number of requests in one job


SMOKE = Sizes(pairs=1, requests=100)


async def formats(provider: Provider, sizes: Sizes) -> list[Figure]:
    """Runs native jobs and jobs in OpenAI's format in turn, and reads the results of each."""
    provider.behave()
    native, foreign = list[float](), list[float]()
    async with orchestrator(provider, LIMIT, WORKERS, DEFAULT_PROVIDER="openrouter") as system:
        client = Client(system.url)
        for number in range(sizes.pairs + 1):
            measured = (
                await _cpu_ms(client, system, _native(sizes.requests), "native"),
                await _cpu_ms(client, system, _openai(sizes.requests), "openai"),
            )
            if number:  # the first pair warms the system up
                native.append(measured[0])
                foreign.append(measured[1])
        await client.close()
    ratios = [theirs / ours for ours, theirs in zip(native, foreign, strict=True)]
    ratio = Sample.of(ratios)
    return [
        Figure("CPU of a native request in a job", "ms", "", {"c": Sample.of(native)}),
        Figure("CPU of a request in OpenAI's batch format", "ms", "", {"c": Sample.of(foreign)}),
        Figure(
            "the second ÷ the first, in pairs",
            *("×", "≤ 1.1"),
            {"c": ratio},
            met=ratio.median <= 1.1,
        ),
    ]


async def _cpu_ms(client: Client, system: System, requests: list[bytes], results: str) -> float:
    """Returns the CPU time per request of all processes, from the upload to the last result."""
    before = sum(system.processes.cpu_s().values())
    job_id = await client.upload(b"\n".join(requests))
    read = await client.results(job_id, results)
    if read != len(requests):
        raise RuntimeError(f"{read} of {len(requests)} results were read")
    return 1000 * (sum(system.processes.cpu_s().values()) - before) / len(requests)


def _native(count: int) -> list[bytes]:
    return [orjson.dumps({"provider": "openrouter", **_chat()}) for _ in range(count)]


def _openai(count: int) -> list[bytes]:
    return [
        orjson.dumps(
            {
                "custom_id": f"request-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {**_chat(), "temperature": 0.7, "max_tokens": 1000},
            }
        )
        for number in range(count)
    ]


def _chat() -> dict[str, object]:
    content = f"{PROMPT}{next(_numbers)}"
    return {"model": "m", "messages": [{"role": "user", "content": content}]}
