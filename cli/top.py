"""Shows lanes, workers, jobs and current problems: `orchestrator top`."""

import asyncio

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cli.console import write_line
from cli.job_list import newest_jobs
from cli.top_tables import (
    deployments_table,
    lanes_table,
    short_jobs,
    short_lanes,
    wide_jobs,
    workers_line,
    workers_table,
)
from orchestrator_client import AsyncClient, JobSummary, Notice, OrchestratorError, Overview

POLL_S = 1.0
JOBS_SHOWN = 10
NOTICES_SHOWN = 3  # limit of the shown notices on a narrow terminal
JOBS_HEADING = 2  # number of lines above the first job
WIDE = 120  # columns of a terminal in which the whole tables fit

_NOTICE_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


async def show_top(
    client: AsyncClient, console: Console, *, live: bool, as_json: bool, wide: bool
) -> None:
    """Prints the overview once or, if `live`, updates it until cancelled.

    as_json: prints the overview once, as one line of JSON without the jobs.
    wide: shows whole ids and all columns, even on a terminal of fewer than WIDE columns.

    Raises OrchestratorError if the first overview cannot be read. If a later overview cannot be
    read, the previous overview stays on the screen, with the error.
    """
    overview, jobs = await _read(client)
    if as_json:
        write_line(overview.model_dump_json().encode())
        return

    def screen() -> RenderableType:
        if wide or console.width >= WIDE:
            return _wide_screen(client.url, overview, jobs)
        height = console.height if live else None
        return _narrow_screen(client.url, overview, jobs, console, height)

    if not live:
        console.print(screen())
        return
    with Live(screen(), console=console, screen=True) as display:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                overview, jobs = await _read(client)
            except OrchestratorError as error:
                message = Text(f"{error} Figures are from {overview.at:%H:%M:%S} UTC.", "red")
                display.update(Group(message, screen()))
            else:
                display.update(screen())


async def _read(client: AsyncClient) -> tuple[Overview, list[JobSummary]]:
    return await client.overview(), await newest_jobs(client, JOBS_SHOWN)


def _wide_screen(url: str, overview: Overview, jobs: list[JobSummary]) -> Group:
    return Group(
        _title(url, overview),
        *_notices(overview.notices),
        lanes_table(overview.lanes),
        *([deployments_table(overview.lanes, overview.at)] if _has_unhealthy(overview) else ()),
        workers_table(overview.workers, overview.at),
        wide_jobs(jobs, overview.at),
    )


def _has_unhealthy(overview: Overview) -> bool:
    return any(lane.deployments for lane in overview.lanes)


def _narrow_screen(
    url: str,
    overview: Overview,
    jobs: list[JobSummary],
    console: Console,
    height: int | None,
) -> Group:
    """Returns a screen of at most 80 columns and `height` lines, with as many jobs as fit.

    Shows at least one notice and one job, even if they do not fit. If `height` is None, the number
    of lines is not limited.
    """
    notices = _notices(overview.notices)
    for notice in notices:
        notice.no_wrap, notice.overflow = False, "fold"  # although the console does not wrap lines
    below: list[RenderableType] = [
        short_lanes(overview.lanes),
        workers_line(overview.workers),
        Text(),
    ]
    if height is None:
        notices = _first(notices, NOTICES_SHOWN)
        return Group(_title(url, overview), *notices, *below, short_jobs(jobs, overview.at))

    def lines(*parts: RenderableType) -> int:
        return len(console.render_lines(Group(*parts), console.options.update(width=console.width)))

    left = height - lines(_title(url, overview), *below) - JOBS_HEADING
    shown = NOTICES_SHOWN
    while shown > 1 and lines(*_first(notices, shown)) >= left:
        shown -= 1
    notices = _first(notices, shown)
    jobs = jobs[: max(1, left - lines(*notices) - 1)]
    return Group(_title(url, overview), *notices, *below, short_jobs(jobs, overview.at))


def _first(notices: list[Text], limit: int) -> list[Text]:
    hidden = len(notices) - limit
    more = [Text(f"and {hidden} more: orchestrator top --once --wide")] if hidden > 0 else []
    return notices[:limit] + more


def _title(url: str, overview: Overview) -> Text:
    return Text(f"{url}   {overview.at:%H:%M:%S} UTC", "dim")


def _notices(notices: list[Notice]) -> list[Text]:
    return [
        Text(f"{notice.severity}: {notice.text}", _NOTICE_COLOURS.get(notice.severity, "default"))
        for notice in notices
    ] or [Text("All healthy", "green")]
