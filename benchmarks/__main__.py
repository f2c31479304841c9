"""Runs the benchmarks.

`python -m benchmarks [compare | sustained | soak | redis | providers | openai | memory]`

`compare` is the default. Each benchmark replaces its file of results beside this module.
"""

import argparse
import asyncio
import resource
from pathlib import Path

from rich.console import Console

from benchmarks import batch_comparison, comparison, formats, jobs, memory, openai_api, scaling
from benchmarks.isolation import isolation
from benchmarks.jobs import large_jobs
from benchmarks.measured_values import Figure
from benchmarks.provider import Provider, simulated_provider
from benchmarks.provider_faults import provider_faults
from benchmarks.readme_picture import draw
from benchmarks.redis_cost import redis_cost
from benchmarks.report import provenance, results, table
from benchmarks.soak import soak
from benchmarks.sustained import sustained
from shared.logs import configure_logging

HERE = Path(__file__).parent
console = Console(stderr=True)


async def compare(provider: Provider, *, smoke: bool) -> None:
    """Measures what RESULTS.md shows. Writes RESULTS.md and results.svg unless `smoke`."""
    side_by_side = comparison.Comparison(
        provider, comparison.SMOKE if smoke else comparison.Sizes()
    )
    sizes = scaling.SMOKE if smoke else scaling.Sizes()
    console.log("side by side")
    await side_by_side.run()
    alone: list[Figure] = []
    console.log("more workers")
    scaled = await scaling.more_workers(provider, sizes)
    alone += scaling.scaled_figures(scaled)
    for measure in (scaling.idle, scaling.in_flight, scaling.backlog):
        console.log(measure.__name__)
        alone += await measure(provider, sizes)
    console.log("large jobs")
    alone += await large_jobs(provider, jobs.SMOKE if smoke else jobs.Sizes())
    console.log("formats")
    alone += await formats.formats(provider, formats.SMOKE if smoke else formats.Sizes())
    console.log("isolation")
    alone += await isolation(provider, window_s=0.1 if smoke else 2)
    text = results(side_by_side, alone)
    console.print(text, markup=False)
    if not smoke:
        (HERE / "RESULTS.md").write_text(text)
        draw(side_by_side, scaled, HERE / "results.svg")


async def openai_results(provider: Provider, *, smoke: bool) -> str:
    """Measures everything that OPENAI.md shows. Returns the text."""
    console.log("openai")
    figures = await openai_api.openai_api(
        provider, openai_api.SMOKE if smoke else openai_api.Sizes()
    )
    sizes = batch_comparison.SMOKE if smoke else batch_comparison.Sizes()
    rows = await batch_comparison.batch_comparison(provider, console, sizes)
    return "\n".join(
        [
            "# OpenAI's API",
            "",
            *provenance("python -m benchmarks openai"),
            "",
            "What files, batches and live calls of OpenAI's API cost this project, beside the same",
            "requests with the native API. CPU is user and system time of the API, the workers and",
            "Redis; for files and batches no worker runs.",
            "",
            *table(figures, ("c",)),
            "",
            f"A batch of {sizes.lines:,} lines, with calls of {sizes.call_ms} ms, at most",
            f"{openai_api.LIMIT} at once. CPU is the time of all processes of the system; its",
            "client runs on the same machine. The ideal is the time of the calls alone.",
            "",
            *rows,
            "",
        ]
    )


async def memory_results(provider: Provider, *, smoke: bool) -> str:
    """Measures everything that MEMORY.md shows. Returns the text."""
    console.log("memory")
    figures = await memory.memory(provider, memory.SMOKE if smoke else memory.Sizes())
    return "\n".join(
        [
            "# Memory and delays of the API",
            "",
            *provenance("python -m benchmarks memory"),
            "",
            "How much memory one API process takes under large and slow clients, and how long the",
            "slowest `GET /health` takes meanwhile. Each situation has an API process of its own,",
            "whose resident memory is read all the time. A slow reader reads 32 KiB/s, half of the",
            "readers `/jobs/{job_id}`, half `/jobs/{job_id}/results`, of 20 answers.",
            "",
            *table(figures, ("c",)),
            "",
        ]
    )


async def write_results(name: str, command: str, figures: list[Figure]) -> None:
    text = "\n".join([f"# {name}", "", *provenance(command), "", *table(figures, ("c",)), ""])
    console.print(text, markup=False)
    (HERE / f"{name.upper()}.md").write_text(text)


async def run(options: argparse.Namespace) -> None:
    async with simulated_provider() as provider:
        match options.what:
            case "sustained":
                figures = await sustained(provider, options.minutes)
                await write_results("Sustained", "python -m benchmarks sustained", figures)
            case "redis":
                figures = await redis_cost(100_000)
                await write_results("Redis", "python -m benchmarks redis", figures)
            case "memory":
                text = await memory_results(provider, smoke=options.smoke)
                console.print(text, markup=False)
                if not options.smoke:
                    (HERE / "MEMORY.md").write_text(text)
            case "providers":
                text = await provider_faults(provider, console)
                console.print(text, markup=False)
                (HERE / "PROVIDERS.md").write_text(text)
            case "openai":
                text = await openai_results(provider, smoke=options.smoke)
                console.print(text, markup=False)
                if not options.smoke:
                    (HERE / "OPENAI.md").write_text(text)
            case "soak":
                figures = await soak(provider, options.items)
                await write_results(
                    "Soak", f"python -m benchmarks soak --items {options.items}", figures
                )
            case _:
                await compare(provider, smoke=options.smoke)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "what",
        nargs="?",
        choices=["compare", "sustained", "soak", "redis", "providers", "openai", "memory"],
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="for compare, openai and memory: measure in small sizes, to test the benchmark; write"
        " no files",
    )
    parser.add_argument("--minutes", type=float, default=10, help="minutes that `sustained` takes")
    parser.add_argument(
        "--items", type=int, default=1_000_000, help="number of items that `soak` sends"
    )
    configure_logging("WARNING")  # `redis` submits jobs from this process
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
