"""Runs the commands that call an API, and decides their exit codes.

0    The command succeeded.
1    The input is wrong, the API refused the command, or the API could not be reached.
2    The arguments are wrong.
3    The job has ended, but not every request was answered.
130  The user interrupted the command. The job continues.
"""

import asyncio
import logging
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

QUICK_RETRY_FOR_S = 2.0  # retry time of a command that only shows something
RETRY_FOR_S = 60.0  # retry time of a command that follows a job

T = TypeVar("T")


def run_with_client(
    work: Callable[[AsyncClient], Coroutine[Any, Any, T]], retry_for_s: float = QUICK_RETRY_FOR_S
) -> T:
    """Runs `work` with a client, and returns the result.

    If `retry_for_s` is longer than QUICK_RETRY_FOR_S, prints each reason for a retry once. If the
    client raises an OrchestratorError, prints the error and raises typer.Exit. Raises typer.Exit if
    the user interrupts the command.
    """
    reported: set[str] = set()

    def report(reason: str) -> None:
        if retry_for_s > QUICK_RETRY_FOR_S and reason not in reported:
            sentence = reason.rstrip(".")
            err.print(f"{sentence}. Retrying for up to {retry_for_s:.0f} s.", markup=False)
            reported.add(reason)

    logging.getLogger("orchestrator_client").disabled = True  # commands have their own messages

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
    """Makes a command succeed if its output is no longer read, as in `orchestrator jobs | head`.

    If stdout cannot be written for another reason, the command fails with that reason.
    """

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:  # noqa: ANN401 — the arguments of `command`
        try:
            command(*args, **options)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            raise typer.Exit(0) from None
        except OSError as error:
            _discard_output()
            fail(f"stdout: {error.strerror}. Nothing is lost: run the command again.")

    return run


def _discard_output() -> None:
    """Lets the interpreter flush what stdout still holds, without another error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
