"""Writes the results of a job as NDJSON."""

import sys
from contextlib import aclosing
from pathlib import Path

from cli.command_runner import fail
from orchestrator_client import AsyncClient, Order, Outcome

STDOUT = "-"


def check_directory(output: str | None) -> None:
    """Raises typer.Exit if the directory of `output` does not exist.

    This is checked before the job is submitted, because the providers' answers cost money.
    """
    if output and output != STDOUT and not Path(output).resolve().parent.is_dir():
        fail(f"{output}: no such directory")


async def save_results(
    client: AsyncClient,
    job_id: str,
    output: str,
    *,
    order: Order = "index",
    status: Outcome | None = None,
    follow: bool = True,
) -> None:
    """Writes the results to stdout or to a file. Raises typer.Exit if the file can't be written.

    A regular file appears only when it is complete. Other files, such as pipes, are written to
    directly.
    """
    async with aclosing(
        client.results(job_id, order=order, status=status, follow=follow)
    ) as results:
        if output == STDOUT:
            async for item in results:
                sys.stdout.write(item.model_dump_json() + "\n")
            sys.stdout.flush()
            return
        path = Path(output).resolve()  # the target of `output`, if `output` is a link
        special = path.exists() and not path.is_file()
        part = path if special else path.with_name(f"{path.name}.part")
        try:
            with part.open("w") as file:
                async for item in results:
                    file.write(item.model_dump_json() + "\n")
            if not special:
                part.replace(path)
        except OSError as error:
            fail(f"{output}: {error.strerror}")
        finally:
            if not special:
                part.unlink(missing_ok=True)
