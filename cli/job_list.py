"""Reads and shows lists of jobs."""

from collections.abc import Iterable
from contextlib import aclosing
from datetime import datetime

from rich.table import Table

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


def job_table(jobs: Iterable[JobSummary], now: datetime) -> Table:
    rows = table()
    rows.add_column("job", no_wrap=True, min_width=32)  # the whole id, so that it can be copied
    for column in ("status", "requests", "answered", "failed", "age"):
        rows.add_column(column)
    for job in jobs:
        rows.add_row(
            job.job_id,
            job.status,
            f"{job.total_requests:,}",
            f"{job.successful:,}",
            f"{job.failed:,}",
            duration((now - job.accepted_at).total_seconds()),
        )
    return rows
