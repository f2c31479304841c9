"""Defines the command `orchestrator submit`."""

import asyncio
import os
import shlex
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.command_runner import RETRY_FOR_S, WRONG_ARGUMENTS, fail, run_with_client
from cli.console import err
from cli.input_errors import InputError, WrongArguments
from cli.job_progress import follow_job, report
from cli.newest_idempotency_keys import NewestKeys, state_directory
from cli.options import INPUT, JOB, AsJson, ResultsFile, ResultsFormat, Wait
from cli.request_file import InputOptions, read_requests
from cli.result_file import check_output
from cli.tables import duration
from orchestrator_client import AsyncClient, Job, JobSummary, RequestFormat
from orchestrator_client.request_lines import choose_idempotency_key

# A job that is older was accepted for an earlier command, because clocks usually differ by less.
EARLIER_S = 60.0


def submit(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="File with requests or prompts; '-' for stdin.")
    ],
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Provider of the prompts, or of requests that do not name a provider.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model of the prompts, or of requests that do not name a provider.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="System message for each prompt.", rich_help_panel=INPUT),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Column of a CSV or TSV file, or field of JSON lines, that has the prompts.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    id_field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Column or field that becomes the request_id of the results. Needs --field.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    request_format: Annotated[
        RequestFormat | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Format of the requests: native, openai-batch, openai, anthropic-batch, anthropic,"
            " gemini-batch or gemini. Default: the first request decides.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    output: ResultsFile = None,
    output_format: ResultsFormat = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Idempotency key. Default: derived from the requests and options.",
            rich_help_panel=JOB,
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Time limit. Requests that have not finished by then fail.",
            rich_help_panel=JOB,
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="URL that receives a POST at the end of the job.",
            rich_help_panel=JOB,
        ),
    ] = None,
    *,
    lines: Annotated[
        bool,
        typer.Option(
            "--lines",
            help="Send each line as a prompt, whatever the lines look like.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    new: Annotated[
        bool,
        typer.Option(
            "--new",
            help="Create a new job, even for requests submitted before.",
            rich_help_panel=JOB,
        ),
    ] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Submit a file of requests or prompts as one job, and follow the job.

    Requests are a JSON batch, JSON lines, or the lines of an OpenAI, Anthropic or Gemini batch
    file. Prompts are lines of text, JSON strings, or a field of a CSV, TSV or JSON file.

    If you run the command again with the same input, it continues the same job, and you pay for
    nothing twice."""
    if key and new:
        fail("--key and --new cannot be used together", WRONG_ARGUMENTS)
    given = InputOptions(provider, model, request_format, system, field, id_field, lines)
    try:
        requests = read_requests(file, given)
    except WrongArguments as error:
        fail(f"{file}: {error}.", WRONG_ARGUMENTS)
    except InputError as error:
        fail(f"{file}: {error}")
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    check_output(output)
    options: dict[str, Any] = {"deadline_s": deadline, "webhook_url": webhook}
    if not requests.are_prompts:
        options |= {"provider": provider, "model": model, "format": request_format}
    options = {**requests.options, **{n: v for n, v in options.items() if v is not None}}

    async def run(client: AsyncClient) -> JobSummary:
        job: Job | None = None
        nonlocal key
        newest = NewestKeys(
            state_directory(), client.url, os.environ.get("ORCHESTRATOR_API_KEY", "")
        )
        if not key:
            derived = choose_idempotency_key(requests, key=None, new=False, **options)
            key = newest.create(derived) if new else newest.find(derived) or derived
        try:
            job = await client.submit(requests, key=key, new=key is None, **options)
            if not as_json:
                err.print(f"job {job.job_id}{_accepted_earlier(job)}", markup=False)
            return await follow_job(client, job, output, output_format) if wait else job
        except asyncio.CancelledError:
            _say_how_to_continue(job, output, can_repeat=file != "-" and key is not None)
            raise

    report(run_with_client(run, RETRY_FOR_S), as_json=as_json)


def _say_how_to_continue(job: Job | None, output: str | None, *, can_repeat: bool) -> None:
    if job:
        err.print("interrupted; the job continues")
    else:
        err.print("interrupted during the upload; the API may have accepted the job")
    if job and not can_repeat:
        again = ["orchestrator", "results", job.job_id, *(["-o", output] if output else [])]
    else:
        again = ["orchestrator", *(word for word in sys.argv[1:] if word != "--new")]
    err.print(f"To continue: {shlex.join(again)}", markup=False)
    if job:
        err.print(f"To cancel:   orchestrator cancel {job.job_id}", markup=False)


def _accepted_earlier(job: JobSummary) -> str:
    ago_s = (datetime.now(UTC) - job.accepted_at).total_seconds()
    if ago_s <= EARLIER_S:
        return ""
    return f" was accepted {duration(ago_s)} ago; use --new to create a new job"
