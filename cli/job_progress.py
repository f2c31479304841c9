"""Follows a job until its end, and reports how it ended."""

from contextlib import aclosing

import typer

from cli.command_runner import NOT_ALL_ANSWERED
from cli.console import err
from cli.job_summary import FAILURES_READ, print_causes, print_json, print_summary
from cli.progress import progress_bars
from cli.result_file import result_format, save_results
from orchestrator_client import AsyncClient, JobSummary, ResultFormat


async def follow_job(
    client: AsyncClient,
    job: JobSummary,
    output: str | None = None,
    output_format: ResultFormat | None = None,
) -> JobSummary:
    """Shows the progress of the job until it ends, writes its results, and returns the job.

    output: file for the results. None or "": no results are written.
    output_format: format of the results. Default: the format that belongs to the requests.
    """
    if job.finished_at is None:
        async with (
            progress_bars(client, job, err) as advance,
            aclosing(client.results(job.job_id, order="completion")) as items,
        ):
            async for item in items:
                advance(item)
    if output:
        form = output_format or result_format(job.format)
        await save_results(client, job.job_id, output, form=form)
    return await client.status(job.job_id)


async def report(
    client: AsyncClient, job: JobSummary, *, as_json: bool, output: str | None = None
) -> JobSummary:
    """Prints the job, the most frequent cause of its failures, and how to read its results.

    With `as_json`, prints only the job. Returns `job`.
    """
    if as_json:
        print_json(job)
        return job
    print_summary(job, err)
    if job.finished_at and job.failed > job.cancelled:
        print_causes(await client.failures(job.job_id, FAILURES_READ), err, shown=1)
    if not output:
        err.print(f"Results: orchestrator results {job.job_id}", markup=False)
    return job


def check_answered(job: JobSummary) -> None:
    """Raises typer.Exit if the job has ended and not every request was answered."""
    if job.finished_at and job.failed:
        raise typer.Exit(NOT_ALL_ANSWERED)
