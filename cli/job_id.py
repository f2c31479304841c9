"""Finds a job by the first characters of its id, as `orchestrator jobs` shows them."""

from collections.abc import Iterable
from contextlib import aclosing

from cli.command_runner import fail
from orchestrator_client import AsyncClient
from shared.queue.ids import job_id_of

ID_LENGTH = 32
SHORT = 8
SEARCHED = 10_000  # number of the newest jobs that are compared
SHOWN = 5


async def find_job(client: AsyncClient, given: str) -> str:
    """Returns the id of the job whose id begins with `given`.

    `given` may begin with `batch_`, and may be in upper case. Only the SEARCHED newest jobs are
    compared. Returns `given` itself, without `batch_`, if it has the length of an id, or if no
    compared id begins with it: the API then says whether the job exists. Raises typer.Exit if
    several ids begin with `given`.
    """
    given = job_id_of(given.strip())
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
        ids = ", ".join(short_ids(found)[:SHOWN])
        fail(f"the ids of {len(found)} jobs begin with {given}; add more characters: {ids}")
    return found[0] if found else given


def short_ids(ids: Iterable[str]) -> list[str]:
    """Returns the first characters of each id: 8, or more if 8 do not make all ids different."""
    ids = list(ids)
    length = SHORT
    while length < ID_LENGTH and len({job_id[:length] for job_id in ids}) < len(set(ids)):
        length += 1
    return [job_id[:length] for job_id in ids]
