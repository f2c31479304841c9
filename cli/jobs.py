"""Defines the commands that call a running API: submit, jobs, status, watch, results and others."""

import asyncio
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.command import FOLLOWS, SHOWS, Command, epilog
from cli.command_runner import RETRY_FOR_S, ignore_broken_pipe, run_with_client
from cli.console import err, out
from cli.job_id import find_job
from cli.job_list import job_table, newest_jobs
from cli.job_progress import check_answered, follow_job, report
from cli.job_summary import FAILURES_READ, print_causes, print_json, print_summary
from cli.options import OUTPUT, RESULTS, AsJson, JobId, ResultsFile, ResultsFormat, Wait
from cli.result_file import STDOUT, check_output, result_format, save_results
from cli.submit import submit
from cli.top import show_top
from orchestrator_client import (
    AsyncClient,
    JobItem,
    JobStatus,
    JobSummary,
    Notice,
    Order,
    Outcome,
)

INTERRUPTIBLE = {**SHOWS, 130: "interrupted"}
WORK, MONITOR = "Work with jobs", "See what happens"  # panels of the help


def add_to(app: typer.Typer) -> None:
    def add(
        panel: str, command: Callable[..., None], codes: Mapping[int, str], *examples: str
    ) -> None:
        app.command(cls=Command, rich_help_panel=panel, epilog=epilog(*examples, codes=codes))(
            ignore_broken_pipe(command)
        )

    add(
        WORK,
        submit,
        FOLLOWS,
        "orchestrator submit requests.ndjson -o results.ndjson",
        "orchestrator submit batch.jsonl --provider openrouter -o output.jsonl",
        "orchestrator submit prompts.txt --provider ollama --model llama3.2:3b",
        "orchestrator submit rows.csv --field text --provider ollama --model qwen3",
    )
    add(WORK, jobs, SHOWS, "orchestrator jobs --status running --limit 5")
    add(WORK, status, SHOWS, "orchestrator status 5b1c7a0e")
    add(WORK, watch, FOLLOWS, "orchestrator watch 5b1c7a0e")
    add(
        WORK,
        results,
        INTERRUPTIBLE,
        "orchestrator results 5b1c7a0e -o results.ndjson",
        "orchestrator results 5b1c7a0e --status failed",
    )
    add(WORK, cancel, SHOWS, "orchestrator cancel 5b1c7a0e")
    add(WORK, retry, FOLLOWS, "orchestrator retry 5b1c7a0e -o again.ndjson")
    add(MONITOR, top, INTERRUPTIBLE, "orchestrator top", "orchestrator top --once --wide")


def jobs(
    state: Annotated[
        JobStatus | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="List only jobs with this status: queued, running, completed, cancelled or"
            " deadline_exceeded.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Number of jobs to list.")] = 20,
    *,
    wide: Annotated[
        bool,
        typer.Option(
            "--wide",
            help="Show whole ids and all columns. This is the default if stdout is not a terminal.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List your jobs, newest first."""

    async def run(client: AsyncClient) -> list[JobSummary]:
        return await newest_jobs(client, limit, state)

    found = run_with_client(run)
    if as_json:
        for job in found:
            print_json(job)
    else:
        out.print(job_table(found, datetime.now(UTC), wide=wide or not out.is_terminal))


def status(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Show the progress of a job, its failures, and problems that make it slow."""

    async def run(client: AsyncClient) -> tuple[JobSummary, list[Notice], list[JobItem]]:
        job = await client.status(await find_job(client, job_id))
        has_failures = job.failed > job.cancelled
        failures = await client.failures(job.job_id, FAILURES_READ) if has_failures else []
        return job, (await client.overview()).notices, failures

    job, notices, failures = run_with_client(run)
    if as_json:
        print_json(job)
        return
    print_summary(job, out)
    for notice in notices:
        if job.finished_at is None and notice.lane in {None, *job.providers}:
            out.print(f"{notice.severity}: {notice.text}", markup=False)
    print_causes(failures, out)


def watch(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Follow a job until it completes or ends early."""

    async def run(client: AsyncClient) -> JobSummary:
        job: JobSummary = await client.status(await find_job(client, job_id))
        try:
            job = await follow_job(client, job)
        except asyncio.CancelledError:
            _interrupted(job.job_id)
            raise
        return await report(client, job, as_json=as_json)

    check_answered(run_with_client(run, RETRY_FOR_S))


def results(
    job_id: JobId,
    output: ResultsFile = STDOUT,
    output_format: ResultsFormat = None,
    order: Annotated[
        Order,
        typer.Option(
            metavar="ORDER",
            help="index: the order of the requests. completion: the order in which they finish.",
            rich_help_panel=RESULTS,
        ),
    ] = "index",
    only: Annotated[
        Outcome | None,
        typer.Option(
            "--status",
            metavar="OUTCOME",
            help="Print only results with this status: successful or failed.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    *,
    follow: Annotated[
        bool,
        typer.Option(help="Wait for requests that have not finished.", rich_help_panel=RESULTS),
    ] = True,
    as_json: Annotated[  # noqa: ARG001 — so that scripts can pass --json to every command
        bool,
        typer.Option(
            "--json", help="No effect: the results are always JSON.", rich_help_panel=OUTPUT
        ),
    ] = False,
) -> None:
    """Print the results of a job, one JSON object per line, in the format of its requests."""
    check_output(output)

    async def run(client: AsyncClient) -> None:
        whole_id = await find_job(client, job_id)
        form = output_format or result_format((await client.status(whole_id)).format)
        await save_results(
            client, whole_id, output or STDOUT, form=form, order=order, status=only, follow=follow
        )

    run_with_client(run, RETRY_FOR_S)


def cancel(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Cancel a job. Finished requests keep their results."""

    async def run(client: AsyncClient) -> JobSummary:
        return await client.cancel(await find_job(client, job_id))

    job = run_with_client(run)
    if as_json:
        print_json(job)
    else:
        print_summary(job, out)


def retry(
    job_id: JobId,
    output: ResultsFile = None,
    output_format: ResultsFormat = None,
    *,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Create a new job from the failed requests of a job, and follow the new job.

    If you run the command again for the same job, it continues the same new job."""
    check_output(output)

    async def run(client: AsyncClient) -> JobSummary:
        job: JobSummary = await client.retry(await find_job(client, job_id))
        if not as_json:
            err.print(f"job {job.job_id}", markup=False)
        try:
            job = await follow_job(client, job, output, output_format) if wait else job
        except asyncio.CancelledError:
            _interrupted(job.job_id)
            raise
        return await report(client, job, as_json=as_json, output=output)

    check_answered(run_with_client(run, RETRY_FOR_S))


def top(
    *,
    once: Annotated[
        bool,
        typer.Option("--once", help="Print once (the default if stdout is not a terminal)."),
    ] = False,
    wide: Annotated[
        bool,
        typer.Option(
            "--wide",
            help="Show whole ids and all columns. This is the default from 120 columns on.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show providers, workers, jobs and current problems, updated until Ctrl-C."""
    live = out.is_terminal and not once and not as_json
    run_with_client(lambda client: show_top(client, out, live=live, as_json=as_json, wide=wide))


def _interrupted(job_id: str) -> None:
    err.print(f"interrupted; the job continues: {job_id}", markup=False)
    err.print(f"To continue: {shlex.join(['orchestrator', *sys.argv[1:]])}", markup=False)
