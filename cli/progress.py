"""Shows the progress of a job: a bar per provider or, without a terminal, a line every 5 s."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from orchestrator_client import AsyncClient, JobItem, JobSummary, Lane

POLL_S = 1.0
PLAIN_S = 5.0  # seconds between two lines if there is no terminal


@asynccontextmanager
async def progress_bars(
    client: AsyncClient, job: JobSummary, console: Console
) -> AsyncIterator[Callable[[JobItem], None]]:
    """Shows the progress. Yields a function that must be called with each finished item."""
    failed = Counter[str]()
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[lane]}"),
        console=console,
        disable=not console.is_terminal,
    )
    rows: dict[str, TaskID] = {
        provider: bars.add_task(provider, total=total, failed=0, rate="", lane="")
        for provider, total in job.providers.items()
    }

    def advance(item: JobItem) -> None:
        failed[item.provider] += item.error is not None
        bars.update(rows[item.provider], advance=1, failed=failed[item.provider])

    async def poll() -> None:
        """Shows the state of the lanes or, without a terminal, the counts of the job."""
        while True:
            if console.is_terminal:
                for lane in (await client.overview()).lanes:
                    if lane.name in rows:
                        speed = bars.tasks[rows[lane.name]].speed
                        rate = f"{speed:.1f}/s" if speed else ""
                        bars.update(rows[lane.name], rate=rate, lane=_lane_text(lane))
            else:
                console.print(_plain_text(await client.status(job.job_id)))
            await asyncio.sleep(POLL_S if console.is_terminal else PLAIN_S)

    polling = asyncio.create_task(poll())
    try:
        with bars:
            yield advance
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)


def _lane_text(lane: Lane) -> str:
    """Returns the state of a lane. Its running calls belong to all jobs, not only to this job."""
    if lane.paused_until:
        return f"[yellow]paused until {lane.paused_until:%H:%M:%S} UTC"
    return f"{lane.in_flight} of {'?' if lane.limit is None else lane.limit} running"


def _plain_text(job: JobSummary) -> str:
    return (
        f"{job.successful + job.failed:,} of {job.total_requests:,} finished,"
        f" {job.failed:,} failed, {job.running:,} running"
    )
