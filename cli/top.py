"""`orchestrator top`: lanes, workers and jobs in a terminal, and in words what is wrong."""

import asyncio
import sys
from contextlib import aclosing
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from orchestrator_client import (
    AsyncClient,
    JobStatus,
    JobSummary,
    Lane,
    Notice,
    OrchestratorError,
    Overview,
    WorkerView,
)

POLL_S = 1.0
JOBS = 10
WORKERS = 20

_STATE_COLOUR = {
    "alive": "green",
    "silent": "yellow",
    "lost": "red",
}
_COLOUR = {"error": "red", "warning": "yellow", "info": "cyan"}


async def show_top(client: AsyncClient, console: Console, *, live: bool, as_json: bool) -> None:
    """Raises OrchestratorError: live only before the first look."""
    overview, jobs = await _look(client)
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
                overview, jobs = await _look(client)
            except OrchestratorError as error:
                message = Text(f"no news since {overview.at:%H:%M:%S} UTC: {error}", "red")
                screen.update(Group(message, _screen(client.url, overview, jobs)))
            else:
                screen.update(_screen(client.url, overview, jobs))


async def newest(
    client: AsyncClient, most: int, state: JobStatus | None = None
) -> list[JobSummary]:
    found: list[JobSummary] = []
    async with aclosing(client.jobs(state)) as jobs:
        async for job in jobs:
            found.append(job)
            if len(found) == most:
                break
    return found


async def _look(client: AsyncClient) -> tuple[Overview, list[JobSummary]]:
    return await client.overview(), await newest(client, JOBS)


def _screen(url: str, overview: Overview, jobs: list[JobSummary]) -> RenderableType:
    notices = [_notice(notice) for notice in overview.notices] or [
        Text("nothing is wrong right now", "green")
    ]
    return Group(
        Text(f"{url}   {overview.at:%H:%M:%S} UTC", "dim"),
        *notices,
        _lanes(overview.lanes),
        _workers(overview.workers, overview.at),
        _jobs(jobs, overview.at),
    )


def _notice(notice: Notice) -> Text:
    return Text(f"{notice.severity}: {notice.text}", _COLOUR.get(notice.severity, ""))


def _lanes(lanes: list[Lane]) -> Table:
    table = _table(
        "provider",
        "in flight",
        "queued",
        "retry",
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
        table.add_row(
            lane.name + paused,
            f"{lane.in_flight:,} of {'?' if lane.limit is None else f'{lane.limit:,}'}",
            f"{lane.queued:,}",
            f"{lane.deferred:,}",
            "" if lane.oldest_waiting_s is None else age(lane.oldest_waiting_s),
            f"{last.calls_per_s:.1f}",
            *(
                "" if ms is None else f"{ms:,.0f} ms"
                for ms in (last.p50_ms, last.p95_ms, last.p99_ms)
            ),
            ", ".join(f"{code} {count:,}" for code, count in last.errors.items()),
        )
    return table


def _workers(workers: list[WorkerView], at: datetime) -> Table:
    table = _table("worker", "state", "running", "up since", "heard")
    for worker in workers[:WORKERS]:
        running = ", ".join(f"{lane} {n}" for lane, n in worker.running.items() if n)
        table.add_row(
            escape(worker.worker_id),
            f"[{_STATE_COLOUR.get(worker.state, 'default')}]{escape(worker.state)}[/]",
            f"ran {running}" if running and worker.state == "lost" else running or "nothing",
            f"{worker.started_at:%Y-%m-%d %H:%M:%S}",
            f"{age((at - worker.seen_at).total_seconds())} ago",
        )
    if len(workers) > WORKERS:
        table.add_row(f"and {len(workers) - WORKERS} more")
    return table


def _jobs(jobs: list[JobSummary], at: datetime) -> Table:
    table = _table("job", "status", "ended", "failed", "in flight", "age")
    for job in jobs:
        ended = job.successful + job.failed
        share = ended / job.total_requests
        going_on = job.finished_at is None
        table.add_row(
            job.job_id,
            f"[bold]{job.status}[/]" if going_on else job.status,
            f"{ended:,} of {job.total_requests:,} ({share:.0%})",
            f"[red]{job.failed:,}[/]" if job.failed else "0",
            f"{job.running:,}",
            age((at - job.accepted_at).total_seconds()),
        )
    return table


def _table(*columns: str) -> Table:
    return Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)


def age(seconds: float) -> str:
    seconds = max(0, round(seconds))
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
