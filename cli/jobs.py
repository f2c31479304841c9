"""The commands that use a deployment, here or elsewhere.

Exit codes: 0 all is well, 1 refused or not reachable, 2 wrong arguments, 3 the job has ended and
not every request was answered, 130 interrupted (the job goes on).
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cli.progress import following
from cli.prompts import InputError, WrongArguments, read_requests
from cli.top import age, newest, show_top
from orchestrator_client import (
    AsyncClient,
    JobItem,
    JobStatus,
    JobSummary,
    Notice,
    OrchestratorError,
    Order,
    Outcome,
)
from orchestrator_client.async_client import RETRY_FOR_S

QUICK_S = 2.0  # for which a command that only looks tries to
FAILURES_READ, CAUSES_SHOWN = 1000, 5
BEFORE_S = 60.0  # after which a job is said to be from before; clocks may differ by less
SOME_FAILED = 3  # exit code: the job has ended, and not every request was answered

T = TypeVar("T")

PLAIN_WIDTH = 160  # where there is no terminal

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The id of a job.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts: JSON, one object a line.")]
Output = Annotated[
    str | None, typer.Option("-o", "--output", help="A file for the results, as NDJSON; -: stdout.")
]


def add_to(app: typer.Typer) -> None:
    for command in (submit, jobs, status, watch, results, cancel, retry, top):
        app.command()(_as_far_as_read(command))


def _as_far_as_read(command: Callable[..., None]) -> Callable[..., None]:
    """For `| head`: a reader that has had enough is no error."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:  # noqa: ANN401 — those of the command
        try:
            command(*args, **options)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None

    return run


def submit(
    file: Annotated[str, typer.Argument(help="Of requests or prompts; -: standard input.")],
    provider: Annotated[str | None, typer.Option(help="The lines are prompts for it.")] = None,
    model: Annotated[str | None, typer.Option(help="Goes with --provider.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message for each prompt.")] = None,
    output: Output = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key; else it comes from the requests.")
    ] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds the job may take.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that is told when it ends.")] = None,
    *,
    new: Annotated[
        bool, typer.Option("--new", help="A new job, whatever was submitted before.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Until it has ended.")] = True,
    as_json: AsJson = False,
) -> None:
    """Submit a JSON batch, NDJSON of requests or plain prompts, and follow it.

    Started again with the same input it goes on with the same job: nothing is paid for twice."""
    try:
        requests = read_requests(file, provider=provider, model=model, system=system)
        _check(output)
    except WrongArguments as error:
        _fail(str(error), 2)
    except (InputError, OSError) as error:
        _fail(f"{file}: {error.strerror if isinstance(error, OSError) else error}")
    given = {"deadline_s": deadline, "webhook_url": webhook}
    options = {**requests.options, **{n: value for n, value in given.items() if value is not None}}

    async def run(client: AsyncClient) -> JobSummary:
        try:
            job = await client.submit(requests, key=key, new=new, **options)
        except asyncio.CancelledError:
            err.print(
                "interrupted; if all of it had arrived, the same command goes on with the job"
            )
            raise
        if not as_json:
            err.print(f"job {job.job_id}{_from_before(job)}")
        if not wait:
            return job
        return await _finish(client, job, output)

    _end(_run(run, RETRY_FOR_S), as_json=as_json)


def _from_before(job: JobSummary) -> str:
    ago_s = (datetime.now(UTC) - job.accepted_at).total_seconds()
    return f", accepted {age(ago_s)} ago; --new makes a new one" if ago_s > BEFORE_S else ""


def jobs(
    state: Annotated[JobStatus | None, typer.Option("--status", help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most.")] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List one's jobs, newest first."""

    async def run(client: AsyncClient) -> list[JobSummary]:
        return await newest(client, limit, state)

    found = _run(run)
    if as_json:
        for job in found:
            _print_json(job)
        return
    now = datetime.now(UTC)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("job", no_wrap=True, min_width=32)  # to be copied
    for column in ("status", "requests", "answered", "failed", "age"):
        table.add_column(column)
    for job in found:
        table.add_row(
            job.job_id,
            job.status,
            f"{job.total_requests:,}",
            f"{job.successful:,}",
            f"{job.failed:,}",
            age((now - job.accepted_at).total_seconds()),
        )
    out.print(table)


def status(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Show how far a job has come, and why it is slow."""

    async def run(client: AsyncClient) -> tuple[JobSummary, list[Notice], list[JobItem]]:
        job = await client.status(job_id)
        failures = await client.failures(job_id, FAILURES_READ) if job.failed else []
        return job, (await client.overview()).notices, failures

    job, notices, failures = _run(run)
    if as_json:
        _print_json(job)
        return
    _print_summary(job, out)
    for notice in notices:
        if job.finished_at is None and notice.lane in {None, *job.providers}:
            out.print(f"{notice.severity}: {notice.text}", markup=False)
    _print_causes(failures)


def watch(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Follow a job until it has ended."""

    async def run(client: AsyncClient) -> JobSummary:
        return await _finish(client, await client.status(job_id), None)

    _end(_run(run, RETRY_FOR_S), as_json=as_json)


def results(
    job_id: JobId,
    output: Output = "-",
    order: Annotated[Order, typer.Option(help="As the requests are, or as they finish.")] = "index",
    only: Annotated[Outcome | None, typer.Option("--status", help="Only these.")] = None,
    *,
    follow: Annotated[bool, typer.Option(help="Wait for those that have not ended.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="They are, in any case.")] = False,  # noqa: ARG001
) -> None:
    """Print the results of a job as NDJSON."""

    async def run(client: AsyncClient) -> None:
        await _save(client, job_id, output or "-", order=order, only=only, follow=follow)

    _run(run, RETRY_FOR_S)


def cancel(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Stop a job; what has ended stays."""
    job = _run(lambda client: client.cancel(job_id))
    if as_json:
        _print_json(job)
    else:
        _print_summary(job, out)


def retry(
    job_id: JobId,
    output: Output = None,
    *,
    wait: Annotated[bool, typer.Option(help="Until it has ended.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make a new job of the requests that failed, and follow it."""
    _check(output)

    async def run(client: AsyncClient) -> JobSummary:
        job = await client.retry(job_id)
        if not as_json:
            err.print(f"job {job.job_id}")
        return await _finish(client, job, output) if wait else job

    _end(_run(run, RETRY_FOR_S), as_json=as_json)


def top(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="As it is now; so without a terminal.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Watch lanes, workers and jobs, and what is wrong with them; until Ctrl-C."""
    live = out.is_terminal and not once and not as_json
    _run(lambda client: show_top(client, out, live=live, as_json=as_json))


def _run(work: Callable[[AsyncClient], Coroutine[Any, Any, T]], retry_for_s: float = QUICK_S) -> T:
    told: set[str] = set()

    def tell(trouble: str) -> None:
        if retry_for_s > QUICK_S and trouble not in told:
            err.print(f"{trouble} Retrying for up to {retry_for_s:.0f} s.", markup=False)
            told.add(trouble)

    async def main() -> T:
        async with AsyncClient(retry_for_s=retry_for_s, on_retry=tell) as client:
            return await work(client)

    try:
        return asyncio.run(main())
    except OrchestratorError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail(message: str, code: int = 1) -> NoReturn:
    err.print(f"orchestrator: {message}", markup=False)
    raise typer.Exit(code)


def _end(job: JobSummary, *, as_json: bool) -> None:
    if as_json:
        _print_json(job)
    else:
        _print_summary(job, err)
    if job.finished_at and job.failed:
        raise typer.Exit(SOME_FAILED)


async def _finish(client: AsyncClient, job: JobSummary, output: str | None) -> JobSummary:
    try:
        async with (
            following(client, job, err) as seen,
            aclosing(client.results(job.job_id, order="completion")) as items,
        ):
            async for item in items:
                seen(item)
        if output:
            await _save(client, job.job_id, output)
        return await client.status(job.job_id)
    except asyncio.CancelledError:
        err.print("interrupted; the job goes on")
        raise


def _check(output: str | None) -> None:
    """Not only when the job has been paid for."""
    if output and output != "-" and not Path(output).resolve().parent.is_dir():
        _fail(f"{output}: no such directory")


async def _save(
    client: AsyncClient,
    job_id: str,
    output: str,
    *,
    order: Order = "index",
    only: Outcome | None = None,
    follow: bool = True,
) -> None:
    """A file is there when it is whole; what is no file, such as a pipe, is written to as it is."""
    async with aclosing(client.results(job_id, order=order, status=only, follow=follow)) as found:
        if output == "-":
            async for item in found:
                sys.stdout.write(item.model_dump_json() + "\n")
            sys.stdout.flush()
            return
        path = Path(output).resolve()  # the file itself, not a link to it
        special = path.exists() and not path.is_file()
        part = path if special else path.with_name(f"{path.name}.part")
        try:
            with part.open("w") as file:
                async for item in found:
                    file.write(item.model_dump_json() + "\n")
            if not special:
                part.replace(path)
        except OSError as error:
            _fail(f"{output}: {error.strerror}")
        finally:
            if not special:
                part.unlink(missing_ok=True)


def _print_summary(job: JobSummary, console: Console) -> None:
    took = "" if job.total_latency_ms is None else f" in {job.total_latency_ms / 1000:,.1f} s"
    console.print(
        f"{job.status}: {job.successful:,} of {job.total_requests:,} answered{took},"
        f" {job.failed:,} failed, {job.queued:,} queued, {job.running:,} in flight"
    )
    if job.failed and job.finished_at:
        console.print(f"again, only those: orchestrator retry {job.job_id}")


def _print_causes(failures: list[JobItem]) -> None:
    """What they have in common, the most frequent first."""

    def cause(item: JobItem) -> tuple[str, str, str | None]:
        return item.provider, item.model, item.error_code

    examples = {cause(item): item.error for item in failures}
    for key, count in Counter(map(cause, failures)).most_common(CAUSES_SHOWN):
        provider, model, code = key
        first = f" of the first {len(failures):,}" if len(failures) == FAILURES_READ else ""
        out.print(
            f"failed: {count:,}{first} of {provider}: {model}, {code}; such as: {examples[key]}",
            markup=False,
        )


def _print_json(job: JobSummary) -> None:
    sys.stdout.write(job.model_dump_json(exclude={"responses"}) + "\n")
