"""Makes the tables of `orchestrator top`: wide tables, and narrow tables of 80 columns."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.deployment_state import first_of, short_state, state_of
from cli.job_id import short_ids
from cli.job_list import short_status
from cli.tables import duration, table
from orchestrator_client import JobSummary, Lane, WorkerView
from shared.monitoring.account_state import PROBING

WORKERS_SHOWN = 20
LANES_SHOWN = 5  # limit of the shown lanes on a narrow terminal; idle lanes are left out first

_WORKER_COLOURS = {"alive": "green", "silent": "yellow", "lost": "red"}


def lanes_table(lanes: Sequence[Lane]) -> Table:
    rows = table(
        *("provider", "running", "queued", "retrying", "oldest", "calls/s"),
        *("p50", "p95", "p99", "errors (1 min)"),
    )
    for lane in lanes:
        last = lane.last_minute
        rows.add_row(
            f"{escape(lane.name)} {short_state(lane)}".rstrip(),
            _running_of(lane),
            f"{lane.queued:,}",
            f"{lane.deferred:,}",
            "–" if lane.oldest_waiting_s is None else duration(lane.oldest_waiting_s),  # noqa: RUF001
            f"{last.calls_per_s:.1f}",
            *map(_ms, (last.p50_ms, last.p95_ms, last.p99_ms)),
            escape(", ".join(f"{code} {count:,}" for code, count in last.errors.items())),
        )
    return rows


def short_lanes(lanes: Sequence[Lane]) -> Table:
    rows = table("provider", "running", "queued", "retrying", "calls/s", "p95", "errors")
    busiest = sorted(lanes, key=_load, reverse=True)[:LANES_SHOWN]
    for lane in (lane for lane in lanes if lane in busiest):
        rows.add_row(
            f"{escape(lane.name)} {short_state(lane)}".rstrip(),
            _running_of(lane),
            f"{lane.queued:,}",
            f"{lane.deferred:,}",
            f"{lane.last_minute.calls_per_s:.1f}",
            _ms(lane.last_minute.p95_ms),
            f"{sum(lane.last_minute.errors.values()):,}",
        )
    if hidden := len(lanes) - len(busiest):
        rows.add_row(f"and {hidden} more")
    return rows


def _load(lane: Lane) -> tuple[bool, int]:
    waiting = lane.in_flight + lane.queued + lane.deferred
    return bool(lane.deployments), waiting + lane.last_minute.calls


def deployments_table(lanes: Sequence[Lane], now: datetime) -> Table:
    """Returns a table of the deployments that are not healthy, with the first ones of each lane."""
    rows = table("not healthy", "state")
    for lane in lanes:
        shown, more = first_of(lane)
        for one in shown:
            colour = "red" if one.state == PROBING else "yellow"
            rows.add_row(escape(one.name), f"[{colour}]{escape(state_of(one, now))}[/]")
        if more:
            rows.add_row(more)
    return rows


def workers_table(workers: Sequence[WorkerView], now: datetime) -> Table:
    rows = table("worker", "state", "running", "started", "last seen")
    for worker in workers[:WORKERS_SHOWN]:
        colour = _WORKER_COLOURS.get(worker.state, "default")
        rows.add_row(
            escape(worker.worker_id),
            f"[{colour}]{escape(worker.state)}[/]",
            escape(_running(worker)),
            f"{worker.started_at:%Y-%m-%d %H:%M:%S}",
            f"{duration((now - worker.seen_at).total_seconds())} ago",
        )
    if len(workers) > WORKERS_SHOWN:
        rows.add_row(f"and {len(workers) - WORKERS_SHOWN} more")
    return rows


def workers_line(workers: Sequence[WorkerView]) -> Text:
    states = Counter(worker.state for worker in workers)
    line = Text("workers: ")
    parts = [
        Text(f"{count:,} {state}", _WORKER_COLOURS.get(state, "default"))
        for state, count in states.items()
    ]
    return line + Text(", ").join(parts or [Text("none", "red")])


def wide_jobs(jobs: Sequence[JobSummary], now: datetime) -> Table:
    rows = table("job", "status", "finished", "failed", "cancelled", "running", "age")
    for job in jobs:
        finished = job.successful + job.failed
        rows.add_row(
            escape(job.job_id),
            _status(job, job.status),
            f"{finished:,} of {job.total_requests:,} ({finished / job.total_requests:.0%})",
            _failed(job),
            f"{job.cancelled:,}",
            f"{job.running:,}",
            _age(job, now),
        )
    return rows


def short_jobs(jobs: Sequence[JobSummary], now: datetime) -> Table:
    rows = table()
    for column in ("job", "status", "finished", "failed", "running", "age"):
        rows.add_column(column, no_wrap=True)
    for job, job_id in zip(jobs, short_ids(job.job_id for job in jobs), strict=True):
        finished = (job.successful + job.failed) / job.total_requests
        rows.add_row(
            escape(job_id),
            _status(job, short_status(job)),
            f"{finished:.0%} of {job.total_requests:,}",
            _failed(job),
            f"{job.running:,}",
            _age(job, now),
        )
    return rows


def _status(job: JobSummary, text: str) -> str:
    return escape(text) if job.finished_at else f"[bold]{escape(text)}[/]"


def _failed(job: JobSummary) -> str:
    failed = job.failed - job.cancelled
    return f"[red]{failed:,}[/]" if failed else "0"


def _age(job: JobSummary, now: datetime) -> str:
    return duration((now - job.accepted_at).total_seconds())


def _running_of(lane: Lane) -> str:
    return f"{lane.in_flight:,} of {'?' if lane.limit is None else f'{lane.limit:,}'}"


def _running(worker: WorkerView) -> str:
    running = ", ".join(f"{lane} {count}" for lane, count in worker.running.items() if count)
    if running and worker.state == "lost":
        return f"ran {running}"
    return running or "nothing"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"  # noqa: RUF001
