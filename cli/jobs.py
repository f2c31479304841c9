"""Defines the commands that call a running API: submit, jobs, status, watch, results and others."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.command_runner import (
    NOT_ALL_ANSWERED,
    RETRY_FOR_S,
    WRONG_ARGUMENTS,
    fail,
    ignore_broken_pipe,
    run_with_client,
)
from cli.console import err, out
from cli.job_list import job_table, newest_jobs
from cli.job_summary import FAILURES_READ, print_causes, print_json, print_summary
from cli.progress import progress_bars
from cli.request_file import InputError, WrongArguments, read_requests
from cli.result_file import STDOUT, check_directory, save_results
from cli.tables import duration
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

# A job older than this was accepted for an earlier command. Clocks usually differ by less.
EARLIER_S = 60.0

JobId = Annotated[str, typer.Argument(metavar="JOB", help="ID of the job.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON for scripts, with one object per line.")
]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", help="File for the results, in NDJSON; '-' for stdout."),
]
Wait = Annotated[bool, typer.Option(help="Wait until the job completes.")]


def add_to(app: typer.Typer) -> None:
    for command in (submit, jobs, status, watch, results, cancel, retry, top):
        app.command()(ignore_broken_pipe(command))


def submit(
    file: Annotated[
        str, typer.Argument(help="File with requests (JSON or NDJSON) or prompts; '-' for stdin.")
    ],
    provider: Annotated[
        str | None,
        typer.Option(help="Send each line as a prompt to this provider. Needs --model."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model that gets the prompts. Needs --provider.")
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(help="System message for each prompt. Needs --provider and --model."),
    ] = None,
    output: Output = None,
    key: Annotated[
        str | None,
        typer.Option(help="Idempotency key. Default: derived from the requests and options."),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(help="Time limit in seconds. Requests that have not finished by then fail."),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(help="URL that receives a POST at the end of the job.")
    ] = None,
    *,
    new: Annotated[
        bool,
        typer.Option("--new", help="Create a new job, even for requests submitted before."),
    ] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Submit a JSON batch, requests in NDJSON or plain-text prompts, and follow the job.

    If you run the command again with the same input, it continues the same job. So you pay for
    nothing twice."""
    try:
        requests = read_requests(file, provider=provider, model=model, system=system)
        check_directory(output)
    except WrongArguments as error:
        fail(str(error), WRONG_ARGUMENTS)
    except (InputError, OSError) as error:
        fail(f"{file}: {error.strerror if isinstance(error, OSError) else error}")
    given = {"deadline_s": deadline, "webhook_url": webhook}
    options = {**requests.options, **{n: value for n, value in given.items() if value is not None}}

    async def run(client: AsyncClient) -> JobSummary:
        try:
            job = await client.submit(requests, key=key, new=new, **options)
        except asyncio.CancelledError:
            err.print(
                "interrupted; without --new, the same command continues the job,"
                " or submits it if the upload was not complete"
            )
            raise
        if not as_json:
            err.print(f"job {job.job_id}{_accepted_earlier(job)}")
        return await _follow(client, job, output) if wait else job

    _report(run_with_client(run, RETRY_FOR_S), as_json=as_json)


def jobs(
    state: Annotated[
        JobStatus | None, typer.Option("--status", help="List only jobs with this status.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of jobs to list.")] = 20,
    *,
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
        out.print(job_table(found, datetime.now(UTC)))


def status(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Show the progress of a job, its failures, and problems that make it slow."""

    async def run(client: AsyncClient) -> tuple[JobSummary, list[Notice], list[JobItem]]:
        job = await client.status(job_id)
        failures = await client.failures(job_id, FAILURES_READ) if job.failed else []
        return job, (await client.overview()).notices, failures

    job, notices, failures = run_with_client(run)
    if as_json:
        print_json(job)
        return
    print_summary(job, out)
    for notice in notices:
        if job.finished_at is None and notice.lane in {None, *job.providers}:
            out.print(f"{notice.severity}: {notice.text}", markup=False)
    print_causes(failures)


def watch(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Follow a job until it completes or ends early."""

    async def run(client: AsyncClient) -> JobSummary:
        return await _follow(client, await client.status(job_id), None)

    _report(run_with_client(run, RETRY_FOR_S), as_json=as_json)


def results(
    job_id: JobId,
    output: Output = STDOUT,
    order: Annotated[
        Order,
        typer.Option(
            help="index: the order of the requests. completion: the order in which they finish."
        ),
    ] = "index",
    only: Annotated[
        Outcome | None, typer.Option("--status", help="Print only results with this status.")
    ] = None,
    *,
    follow: Annotated[bool, typer.Option(help="Wait for requests that have not finished.")] = True,
    as_json: Annotated[  # noqa: ARG001 — so that scripts can pass --json to every command
        bool, typer.Option("--json", help="No effect: the results are always printed as NDJSON.")
    ] = False,
) -> None:
    """Print the results of a job as NDJSON."""

    async def run(client: AsyncClient) -> None:
        await save_results(
            client, job_id, output or STDOUT, order=order, status=only, follow=follow
        )

    run_with_client(run, RETRY_FOR_S)


def cancel(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Cancel a job. Finished requests keep their results."""
    job = run_with_client(lambda client: client.cancel(job_id))
    if as_json:
        print_json(job)
    else:
        print_summary(job, out)


def retry(
    job_id: JobId,
    output: Output = None,
    *,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Create a new job from the failed requests of a job, and follow the new job."""
    check_directory(output)

    async def run(client: AsyncClient) -> JobSummary:
        job = await client.retry(job_id)
        if not as_json:
            err.print(f"job {job.job_id}")
        return await _follow(client, job, output) if wait else job

    _report(run_with_client(run, RETRY_FOR_S), as_json=as_json)


def top(
    *,
    once: Annotated[
        bool,
        typer.Option("--once", help="Print once (the default if stdout is not a terminal)."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show providers, workers, jobs and current problems, updated until Ctrl-C."""
    live = out.is_terminal and not once and not as_json
    run_with_client(lambda client: show_top(client, out, live=live, as_json=as_json))


async def _follow(client: AsyncClient, job: JobSummary, output: str | None) -> JobSummary:
    """Shows progress until the end of the job, saves its results, and returns its status."""
    try:
        async with (
            progress_bars(client, job, err) as advance,
            aclosing(client.results(job.job_id, order="completion")) as items,
        ):
            async for item in items:
                advance(item)
        if output:
            await save_results(client, job.job_id, output)
        return await client.status(job.job_id)
    except asyncio.CancelledError:
        err.print("interrupted; the job continues")
        raise


def _report(job: JobSummary, *, as_json: bool) -> None:
    """Prints the job. Raises typer.Exit if the job has ended and not every request was answered."""
    if as_json:
        print_json(job)
    else:
        print_summary(job, err)
    if job.finished_at and job.failed:
        raise typer.Exit(NOT_ALL_ANSWERED)


def _accepted_earlier(job: JobSummary) -> str:
    ago_s = (datetime.now(UTC) - job.accepted_at).total_seconds()
    if ago_s <= EARLIER_S:
        return ""
    return f" was accepted {duration(ago_s)} ago; use --new to create a new job"
