"""Reads and shows lists of jobs."""

from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime

from rich.markup import escape
from rich.table import Table

from cli.job_id import short_ids
from cli.tables import duration, table
from orchestrator_client import AsyncClient, JobStatus, JobSummary


async def newest_jobs(
    client: AsyncClient, limit: int, status: JobStatus | None = None
) -> list[JobSummary]:
    found: list[JobSummary] = []
    async with aclosing(client.jobs(status)) as jobs:
        async for job in jobs:
            found.append(job)
            if len(found) == limit:
                break
    return found


def job_table(jobs: Sequence[JobSummary], now: datetime, *, wide: bool) -> Table:
    """Returns a table of the jobs. With `wide`, shows whole ids in longer lines."""
    if wide:
        rows = table()
        rows.add_column("job", no_wrap=True, min_width=32)  # the whole id, so that it can be copied
    else:
        rows = table("job")
    counts = ("requests", "answered") if wide else ("answered",)
    for column in ("status", *counts, "failed", "cancelled", "age"):
        rows.add_column(column, no_wrap=True)
    shown = [job.job_id for job in jobs]
    for job, job_id in zip(jobs, shown if wide else short_ids(shown), strict=True):
        failed = f"{job.failed - job.cancelled:,}"
        age = duration((now - job.accepted_at).total_seconds())
        rest = (failed, f"{job.cancelled:,}", age)
        if wide:
            total, answered = f"{job.total_requests:,}", f"{job.successful:,}"
            rows.add_row(escape(job_id), escape(job.status), total, answered, *rest)
        else:
            answered = f"{job.successful:,} of {job.total_requests:,}"
            rows.add_row(escape(job_id), escape(short_status(job)), answered, *rest)
    return rows


def short_status(job: JobSummary) -> str:
    return "deadline" if job.status == "deadline_exceeded" else job.status
