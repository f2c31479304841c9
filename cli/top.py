"""Shows lanes, workers, jobs and current problems: `orchestrator top`."""

import asyncio
import sys
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.job_list import newest_jobs
from cli.tables import duration, table
from orchestrator_client import (
    AsyncClient,
    JobSummary,
    Lane,
    Notice,
    OrchestratorError,
    Overview,
    WorkerView,
)

POLL_S = 1.0
JOBS_SHOWN = 10
WORKERS_SHOWN = 20

_WORKER_COLOURS = {"alive": "green", "silent": "yellow", "lost": "red"}
_NOTICE_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


async def show_top(client: AsyncClient, console: Console, *, live: bool, as_json: bool) -> None:
    """Prints the overview once or, if `live`, updates it until cancelled.

    Raises OrchestratorError if the first overview cannot be read. If a later overview cannot be
    read, the previous overview stays on the screen, with the error.
    """
    overview, jobs = await _read(client)
    if as_json:
        sys.stdout.write(overview.model_dump_json() + "\n")
        return
    if not live:
        console.print(_screen(client.url, overview, jobs))
        return
    with Live(_screen(client.url, overview, jobs), console=console, screen=True) as screen:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                overview, jobs = await _read(client)
            except OrchestratorError as error:
                message = Text(f"{error} Figures are from {overview.at:%H:%M:%S} UTC.", "red")
                screen.update(Group(message, _screen(client.url, overview, jobs)))
            else:
                screen.update(_screen(client.url, overview, jobs))


async def _read(client: AsyncClient) -> tuple[Overview, list[JobSummary]]:
    return await client.overview(), await newest_jobs(client, JOBS_SHOWN)


def _screen(url: str, overview: Overview, jobs: list[JobSummary]) -> RenderableType:
    notices = [_notice(notice) for notice in overview.notices] or [Text("All healthy", "green")]
    return Group(
        Text(f"{url}   {overview.at:%H:%M:%S} UTC", "dim"),
        *notices,
        _lanes(overview.lanes),
        _workers(overview.workers, overview.at),
        _jobs(jobs, overview.at),
    )


def _notice(notice: Notice) -> Text:
    colour = _NOTICE_COLOURS.get(notice.severity, "default")
    return Text(f"{notice.severity}: {notice.text}", colour)


def _lanes(lanes: list[Lane]) -> Table:
    rows = table(
        "provider",
        "running",
        "queued",
        "retrying",
        "oldest",
        "calls/s",
        "p50",
        "p95",
        "p99",
        "errors (1 min)",
    )
    for lane in lanes:
        last = lane.last_minute
        paused = (
            f" [yellow]paused until {lane.paused_until:%H:%M:%S}[/]" if lane.paused_until else ""
        )
        rows.add_row(
            escape(lane.name) + paused,
            f"{lane.in_flight:,} of {'?' if lane.limit is None else f'{lane.limit:,}'}",
            f"{lane.queued:,}",
            f"{lane.deferred:,}",
            "–" if lane.oldest_waiting_s is None else duration(lane.oldest_waiting_s),  # noqa: RUF001
            f"{last.calls_per_s:.1f}",
            *(
                "–" if ms is None else f"{ms:,.0f} ms"  # noqa: RUF001
                for ms in (last.p50_ms, last.p95_ms, last.p99_ms)
            ),
            ", ".join(f"{code} {count:,}" for code, count in last.errors.items()),
        )
    return rows


def _workers(workers: list[WorkerView], now: datetime) -> Table:
    rows = table("worker", "state", "running", "started", "last seen")
    for worker in workers[:WORKERS_SHOWN]:
        colour = _WORKER_COLOURS.get(worker.state, "default")
        rows.add_row(
            escape(worker.worker_id),
            f"[{colour}]{escape(worker.state)}[/]",
            _running(worker),
            f"{worker.started_at:%Y-%m-%d %H:%M:%S}",
            f"{duration((now - worker.seen_at).total_seconds())} ago",
        )
    if len(workers) > WORKERS_SHOWN:
        rows.add_row(f"and {len(workers) - WORKERS_SHOWN} more")
    return rows


def _running(worker: WorkerView) -> str:
    running = ", ".join(f"{lane} {count}" for lane, count in worker.running.items() if count)
    if running and worker.state == "lost":
        return f"ran {running}"
    return running or "nothing"


def _jobs(jobs: list[JobSummary], now: datetime) -> Table:
    rows = table("job", "status", "finished", "failed", "running", "age")
    for job in jobs:
        finished = job.successful + job.failed
        rows.add_row(
            job.job_id,
            job.status if job.finished_at else f"[bold]{job.status}[/]",
            f"{finished:,} of {job.total_requests:,} ({finished / job.total_requests:.0%})",
            f"[red]{job.failed:,}[/]" if job.failed else "0",
            f"{job.running:,}",
            duration((now - job.accepted_at).total_seconds()),
        )
    return rows
