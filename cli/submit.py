"""Defines the command `orchestrator submit`."""

import asyncio
import os
import re
import shlex
import sys
from datetime import UTC, datetime
from typing import Any

from cli.command_runner import RETRY_FOR_S, WRONG_ARGUMENTS, fail, run_with_client
from cli.console import err
from cli.input_errors import InputError, WrongArguments
from cli.job_progress import check_answered, follow_job, report
from cli.newest_idempotency_keys import NewestKeys, state_directory
from cli.options import AsJson, ResultsFile, ResultsFormat, Wait
from cli.request_file import InputOptions, Requests, read_requests
from cli.result_file import check_output
from cli.submit_options import (
    AsLines,
    Deadline,
    DefaultModel,
    DefaultProvider,
    EndWebhook,
    IdField,
    InputFile,
    NewJob,
    PromptField,
    RequestsFormat,
    SubmissionKey,
    SystemMessage,
)
from cli.tables import duration
from orchestrator_client import AsyncClient, Job, JobSummary, RequestRejected
from orchestrator_client.request_lines import choose_idempotency_key

# A job that was accepted more than 60 s ago is from an earlier command: the clocks of two machines
# usually differ by less.
EARLIER_S = 60.0


def submit(
    file: InputFile,
    provider: DefaultProvider = None,
    model: DefaultModel = None,
    system: SystemMessage = None,
    field: PromptField = None,
    id_field: IdField = None,
    request_format: RequestsFormat = None,
    output: ResultsFile = None,
    output_format: ResultsFormat = None,
    key: SubmissionKey = None,
    deadline: Deadline = None,
    webhook: EndWebhook = None,
    *,
    lines: AsLines = False,
    new: NewJob = False,
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
    requests = _read(file, given)
    check_output(output)
    options = _job_options(requests, given, {"deadline_s": deadline, "webhook_url": webhook})

    async def run(client: AsyncClient) -> JobSummary:
        job: Job | None = None
        chosen = _choose_key(client, requests, options, key, new=new)
        try:
            job = await client.submit(requests, key=chosen, new=chosen is None, **options)
            if not as_json:
                err.print(f"job {job.job_id}{_accepted_earlier(job)}", markup=False)
            ended = await follow_job(client, job, output, output_format) if wait else job
        except RequestRejected as error:
            if job:
                raise
            fail(f"{file}: {_of_options(str(error), requests)}")
        except asyncio.CancelledError:
            _say_how_to_continue(job, output, can_repeat=file != "-" and chosen is not None)
            raise
        return await report(client, ended, as_json=as_json, output=output)

    check_answered(run_with_client(run, RETRY_FOR_S))


def _read(file: str, given: InputOptions) -> Requests:
    """Returns the requests in the file. Ends the command if the file cannot be read."""
    try:
        return read_requests(file, given)
    except WrongArguments as error:
        fail(f"{file}: {error}.", WRONG_ARGUMENTS)
    except InputError as error:
        fail(f"{file}: {error}")
    except OSError as error:
        fail(f"{file}: {error.strerror}")


def _job_options(requests: Requests, given: InputOptions, of_job: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of the job. Options of the command replace options in the file."""
    options = dict(of_job)
    if not requests.are_prompts:
        options |= {"provider": given.provider, "model": given.model, "format": given.format}
    return {**requests.options, **{n: v for n, v in options.items() if v is not None}}


def _choose_key(
    client: AsyncClient,
    requests: Requests,
    options: dict[str, Any],
    key: str | None,
    *,
    new: bool,
) -> str | None:
    """Returns the idempotency key, or None if `new` is true and the new key cannot be stored.

    Returns `key` if it is given. With `new`, returns a random key, and stores it. Otherwise,
    returns the key that the newest `submit --new` stored for the same requests and options. If no
    key is stored, returns the key that is derived from the requests and options.
    """
    if key:
        return key
    newest = NewestKeys(state_directory(), client.url, os.environ.get("ORCHESTRATOR_API_KEY", ""))
    derived = choose_idempotency_key(requests, key=None, new=False, **options)
    return newest.create(derived) if new else newest.find(derived) or derived


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


def _of_options(refusal: str, requests: Requests) -> str:
    """Returns the API's refusal, in which an option such as --model replaces the number of a line.

    If the input has prompts, the options --provider and --model are wrong, not a line. The
    refusal of other inputs is returned unchanged.
    """
    if not requests.are_prompts:
        return refusal
    return re.sub(r"^line \d+ (provider|model): ", r"--\1: ", refusal, flags=re.MULTILINE)


def _accepted_earlier(job: JobSummary) -> str:
    ago_s = (datetime.now(UTC) - job.accepted_at).total_seconds()
    said = ""
    if ago_s > EARLIER_S:
        said = f" was accepted {duration(ago_s)} ago; use --new to create a new job"
    if job.finished_at:
        said += (
            f"\nThe job has ended at {job.finished_at:%Y-%m-%d %H:%M:%S} UTC. These are its stored"
            " results; --new runs all requests again."
        )
    return said
