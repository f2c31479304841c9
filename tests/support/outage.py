"""Submits a job, causes a fault of the provider in the middle of the job, and reads the calls."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from support.jobs import job, lines, results, upload, wait_completed
from support.ledger import Call, peak
from support.search_depth import FULL
from support.stack import Stack, eventually

PAUSE_MS = 1000  # the shortest pause that a test causes is longer
BEGIN_MS = 500  # time in which calls may still begin that were claimed before the fault was known


async def submitted(stack: Stack, contents: Iterable[str], **fields: Any) -> str:
    return await upload(stack.api, lines(contents, **fields))


async def wait_answered(stack: Stack, location: str, count: int) -> None:
    """Waits until so many items of the job have been answered."""

    async def answered() -> bool:
        return bool((await job(stack.api, location))["successful"] >= count)

    await eventually(answered, 60)


async def check_all_answered(stack: Stack, location: str, contents: list[str]) -> None:
    """Waits until the job completes, and checks that each item has its answer."""
    status = await wait_completed(stack.api, location)
    assert (status["successful"], status["failed"]) == (len(contents), 0)
    found = await results(stack.api, location)
    assert [result["content"] for result in found] == [f"echo: {text}" for text in contents]


def check_probes(refused: list[Call], *, seconds: float, limit: int) -> list[Call]:
    """Checks the calls of an outage: few, and one at a time after the first calls that failed.

    Returns the probes.
    """
    known_ms = min(call.end_ms for call in refused if call.end_ms) + BEGIN_MS
    first = [call for call in refused if call.start_ms < known_ms]
    probes = [call for call in refused if call.start_ms >= known_ms]
    assert len(first) <= 2 * limit
    assert peak(probes) <= 1
    assert len(probes) <= 20 * max(1, seconds / 60)
    return probes


def check_not_delayed(calls: list[Call], ideal_ms: float, *, factor: float) -> None:
    """Checks that calls followed each other without a pause.

    With `CI_DEPTH=full` also checks that they took no longer than `factor` times the ideal time,
    which a machine with other work fails.
    """
    starts_ms = sorted(call.start_ms for call in calls)
    assert max(later - earlier for earlier, later in pairwise(starts_ms)) < PAUSE_MS
    if FULL:
        wall_ms = max(call.end_ms or 0 for call in calls) - starts_ms[0]
        assert wall_ms <= factor * ideal_ms


def check_recovery(calls: list[Call], repaired_ms: float, *, limit: int) -> None:
    """Checks that all slots are used within 2 s of the first answer after the outage."""
    after = [c for c in calls if c.outcome == 200 and c.start_ms >= repaired_ms and c.end_ms]
    first_ms = min(call.end_ms or 0 for call in after)
    in_time = [call for call in after if call.start_ms <= first_ms + 2000]
    assert peak(in_time) == limit
