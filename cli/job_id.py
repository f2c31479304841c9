"""Finds a job by the first characters of its id, as `orchestrator jobs` shows them."""

from collections.abc import Iterable
from contextlib import aclosing

from cli.command_runner import fail
from orchestrator_client import AsyncClient

ID_LENGTH = 32
SHORT = 8
SEARCHED = 10_000  # limit of the jobs that are compared
SHOWN = 5


async def find_job(client: AsyncClient, given: str) -> str:
    """Returns the id of the job that `given` begins.

    Returns `given` itself if it is a whole id or no job has it, so that the API refuses it. Raises
    typer.Exit if several jobs begin with `given`.
    """
    given = given.strip()
    if len(given) >= ID_LENGTH or not given:
        return given
    found: list[str] = []
    compared = 0
    async with aclosing(client.jobs()) as jobs:
        async for job in jobs:
            compared += 1
            if job.job_id.startswith(given.lower()):
                found.append(job.job_id)
            if compared == SEARCHED:
                break
    if len(found) > 1:
        fail(f"{len(found)} jobs begin with {given}: {', '.join(short_ids(found)[:SHOWN])}")
    return found[0] if found else given


def short_ids(ids: Iterable[str]) -> list[str]:
    """Returns the beginnings of the ids: 8 characters, or more if these are not different."""
    ids = list(ids)
    length = SHORT
    while length < ID_LENGTH and len({job_id[:length] for job_id in ids}) < len(set(ids)):
        length += 1
    return [job_id[:length] for job_id in ids]
