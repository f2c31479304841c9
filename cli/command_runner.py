"""Runs commands against an API, and decides their exit codes.

Exit codes: 0 success, 1 refused or not reachable, 2 wrong arguments, 3 the job completed but not
every request was answered, 130 interrupted (the job continues).
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, NoReturn, TypeVar

import typer

from cli.console import err
from orchestrator_client import AsyncClient, OrchestratorError

FAILED = 1
WRONG_ARGUMENTS = 2
NOT_ALL_ANSWERED = 3
INTERRUPTED = 130

QUICK_RETRY_FOR_S = 2.0  # for a command that shows something and ends
RETRY_FOR_S = 60.0  # for a command that follows a job

T = TypeVar("T")


def run_with_client(
    work: Callable[[AsyncClient], Coroutine[Any, Any, T]], retry_for_s: float = QUICK_RETRY_FOR_S
) -> T:
    """Returns what `work` returns. Reports retries that may take long. Raises typer.Exit."""
    reported: set[str] = set()

    def report(reason: str) -> None:
        if retry_for_s > QUICK_RETRY_FOR_S and reason not in reported:
            err.print(f"{reason} Retrying for up to {retry_for_s:.0f} s.", markup=False)
            reported.add(reason)

    async def main() -> T:
        async with AsyncClient(retry_for_s=retry_for_s, on_retry=report) as client:
            return await work(client)

    try:
        return asyncio.run(main())
    except OrchestratorError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def fail(message: str, code: int = FAILED) -> NoReturn:
    err.print(f"orchestrator: {message}", markup=False)
    raise typer.Exit(code)


def ignore_broken_pipe(command: Callable[..., None]) -> Callable[..., None]:
    """Lets a command succeed whose reader has read enough, as in `orchestrator jobs | head`."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:  # noqa: ANN401 — the command's own
        try:
            command(*args, **options)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None

    return run
