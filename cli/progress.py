"""Shows the progress of a job: a bar per provider or, without a terminal, a line every 5 s."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from time import monotonic
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from cli.deployment_state import short_state
from cli.tables import duration
from orchestrator_client import AsyncClient, JobItem, JobSummary, Lane
from shared.monitoring.account_state import PROBING, account_of

POLL_S = 1.0
PLAIN_S = 5.0  # seconds between two lines if there is no terminal
RATE_S = 30.0  # seconds over which the rate is measured
ALL = "all"
NARROW, NARROW_BAR = 100, 14


class Rate:
    """Measures how many items finish in a second, by the times at which the items finished.

    The times at which results arrive would give a wrong rate: a command that begins to follow a job
    reads all earlier results at once.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._times: deque[datetime] = deque()
        self._arrived = 0.0

    def add(self, time: datetime) -> None:
        self._times.append(time)
        self._arrived = self._clock()
        while (time - self._times[0]).total_seconds() > RATE_S:
            self._times.popleft()

    def per_s(self) -> float | None:
        """Returns the rate, or None if fewer than two items have finished."""
        minimum = 2
        if len(self._times) < minimum:
            return None
        period_s = (self._times[-1] - self._times[0]).total_seconds()
        period_s += self._clock() - self._arrived
        return (len(self._times) - 1) / period_s if period_s > 0 else None


class ProgressBars:
    """Shows a bar for each provider and, for several providers, a bar for the whole job.

    The counts and the rates are of this job only. The state of a lane is the same for all jobs.
    """

    def __init__(self, job: JobSummary, console: Console) -> None:
        narrow = console.width < NARROW
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(NARROW_BAR if narrow else 40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[state]}"),
            console=console,
            disable=not console.is_terminal,
        )
        totals = dict(job.providers)
        if len(totals) > 1:
            totals[ALL] = job.total_requests
        self._rows: dict[str, TaskID] = {
            name: self._bars.add_task(name, total=total, failed=0, rate="", state="")
            for name, total in totals.items()
        }
        self._rates = {name: Rate() for name in totals}
        self._failed = Counter[str]()
        self._whole = ALL if len(job.providers) > 1 else next(iter(totals), ALL)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def advance(self, item: JobItem) -> None:
        for name in {item.provider, self._whole} & self._rows.keys():
            self._failed[name] += item.error is not None
            self._rates[name].add(item.timestamp)
            self._bars.update(self._rows[name], advance=1, failed=self._failed[name])

    def show(self, job: JobSummary, lanes: list[Lane]) -> None:
        """Updates the rates, the remaining times, the running requests and the states of lanes.

        `advance` updates the counts.
        """
        unhealthy = {lane.name: text for lane in lanes if (text := _state(lane))}
        for name, row in self._rows.items():
            task, rate = self._bars.tasks[row], self._rates[name].per_s()
            state = []
            if name in unhealthy:
                state.append(unhealthy[name])
            elif name == self._whole:
                state.append(f"{job.running:,} running")
            if rate and task.remaining and name not in unhealthy:
                state.append(f"{duration(task.remaining / rate)} left")
            self._bars.update(row, rate=f"{rate:.1f}/s" if rate else "", state=", ".join(state))


@asynccontextmanager
async def progress_bars(
    client: AsyncClient, job: JobSummary, console: Console
) -> AsyncIterator[Callable[[JobItem], None]]:
    """Shows the progress, and prints errors that the API reports about the lanes of the job.

    Yields a function that must be called with each finished item.
    """

    async def poll(bars: ProgressBars) -> None:
        printed: set[tuple[str | None, str | None]] = set()
        while True:
            now, overview = await client.status(job.job_id), await client.overview()
            for notice in overview.notices:
                about = notice.lane, notice.model
                is_shown = notice.severity == "error" and notice.lane in {None, *job.providers}
                # Texts are not compared, because their figures change each second.
                if is_shown and about not in printed:
                    printed.add(about)
                    _print_above(f"error: {notice.text}", console)
            if console.is_terminal:
                bars.show(now, overview.lanes)
            else:
                console.print(_plain_text(now))
            await asyncio.sleep(POLL_S if console.is_terminal else PLAIN_S)

    with ProgressBars(job, console) as bars:
        polling = asyncio.create_task(poll(bars))
        try:
            yield bars.advance
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)


def _state(lane: Lane) -> str:
    """Returns the state of a lane in at most 26 characters, and markup for its colour.

    Returns "" if the lane is healthy.
    """
    account = account_of(lane)
    if account and account.state == PROBING:
        then = "tried now" if account.is_probing else f"next {account.next_call_at:%H:%M:%S}"
        return f"[red]not working, {then}[/]"
    if lane.paused_until:
        return f"[yellow]paused until {lane.paused_until:%H:%M:%S} UTC[/]"
    return short_state(lane)


def _print_above(text: str, console: Console) -> None:
    """Prints a text above the bars. On a terminal, breaks lines only between words."""
    console.print(text, style="red", markup=False, soft_wrap=not console.is_terminal)


def _plain_text(job: JobSummary) -> str:
    return (
        f"{job.successful + job.failed:,} of {job.total_requests:,} finished,"
        f" {job.failed:,} failed, {job.running:,} running"
    )
