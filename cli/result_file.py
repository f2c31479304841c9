"""Writes the results of a job as lines of JSON."""

import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from cli.command_runner import fail
from cli.console import err, write_line
from orchestrator_client import AsyncClient, Order, Outcome, ResultFormat
from shared.terminal_text import visible_json

STDOUT = "-"
# The format of the results for each format of requests. Others have `native` results.
_FORMATS: dict[str, ResultFormat] = {
    "openai-batch": "openai",
    "openai": "openai",
    "anthropic-batch": "anthropic",
    "anthropic": "anthropic",
    "gemini-batch": "gemini",
    "gemini": "gemini",
}


def result_format(request_format: str) -> ResultFormat:
    """Returns the format of the results that belongs to the format of a job's requests."""
    return _FORMATS.get(request_format, "native")


def check_output(output: str | None) -> None:
    """Raises typer.Exit if results cannot be written to `output`.

    Commands call this function before they submit a job, because the providers' answers cost money.
    """
    if not output or output == STDOUT:
        return
    path = Path(output).resolve()
    if not path.parent.is_dir():
        fail(f"{output}: no such directory")
    if path.is_dir():
        fail(f"{output} is a directory; name a file in it")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        fail(f"{output}: you may not write there")


async def save_results(
    client: AsyncClient,
    job_id: str,
    output: str,
    *,
    form: ResultFormat,
    order: Order = "index",
    status: Outcome | None = None,
    follow: bool = True,
) -> None:
    """Writes the results to stdout if `output` is `-`, or else to a file.

    A regular file is created or replaced only when all results have arrived. If an error or Ctrl-C
    ends the command earlier, the results so far stay in a file beside it, whose name ends in
    `.part`. Results for stdout and for other files, such as pipes, are written directly.

    Raises typer.Exit if a regular file cannot be written, and OSError if stdout or another file
    cannot be written.
    """
    lines = client.result_lines(job_id, format=form, order=order, status=status, follow=follow)
    async with aclosing(lines):
        if output == STDOUT:
            async for line in lines:
                write_line(line)
            sys.stdout.flush()
            return
        path = Path(output).resolve()  # the target of `output`, if `output` is a link
        if path.exists() and not path.is_file():
            await _write(lines, path)
            return
        part = path.with_name(f"{path.name}.part")
        written = _Count()
        try:
            await _write(lines, part, written)
            part.replace(path)
        except OSError as error:
            _report_part(part, written)
            again = shlex.join(["orchestrator", "results", job_id, "-o", "FILE"])
            fail(f"{output}: {error.strerror}. Nothing is lost. To write to another file: {again}")
        except BaseException:
            _report_part(part, written)
            raise


class _Count:
    lines = 0


async def _write(lines: AsyncIterator[bytes], path: Path, written: _Count | None = None) -> None:
    written = written or _Count()
    size = 0
    with path.open("wb", buffering=0) as file:
        is_terminal = file.isatty()
        async for line in lines:
            try:
                shown = visible_json(line) if is_terminal else line
                _write_all(file.fileno(), shown + b"\n")
            except OSError:
                if path.is_file():
                    file.truncate(size)  # a part of a line would not be JSON
                raise
            size += len(line) + 1
            written.lines += 1


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _report_part(part: Path, written: _Count) -> None:
    if written.lines:
        err.print(f"{written.lines:,} results so far are in {part}", markup=False)
    else:
        part.unlink(missing_ok=True)
