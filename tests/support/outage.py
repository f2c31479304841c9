"""Submits a job, causes a fault of the provider in the middle of the job, and reads the calls."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from cli.simulator.chat import item_of
from support.jobs import job, lines, results, upload, wait_completed
from support.ledger import Call, ledger, peak
from support.search_depth import FULL
from support.stack import Stack, eventually

PAUSE_MS = 1000 if FULL else 1900  # the shortest pause that a test causes is longer
BEGIN_MS = 500  # time in which calls may still begin that were claimed before the fault was known


async def submitted(stack: Stack, contents: Iterable[str], **fields: Any) -> str:
    return await upload(stack.api, lines(contents, **fields))


async def wait_answered(stack: Stack, location: str, count: int) -> None:
    """Waits until at least `count` items of the job have been answered."""

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


async def time_alone_ms(stack: Stack, contents: list[str], **fields: Any) -> float:
    """Runs a job without a fault, and returns how long its calls take.

    Returns 0, and runs no job, without `CI_DEPTH=full`.
    """
    if not FULL:
        return 0
    contents = [f"alone {text}" for text in contents]
    location = await submitted(stack, contents, **fields)
    await check_all_answered(stack, location, contents)
    items = set(map(item_of, contents))
    return wall_ms([call for call in await ledger(stack) if call.item in items])


def wall_ms(calls: list[Call]) -> float:
    return max(call.end_ms or 0 for call in calls) - min(call.start_ms for call in calls)


def check_not_delayed(calls: list[Call], alone_ms: float) -> None:
    """Checks that calls followed each other without a pause.

    With `CI_DEPTH=full` also checks that they took at most 15 % longer than `alone_ms`. Two runs of
    one job differ by some percent if the machine has other work.
    """
    starts_ms = sorted(call.start_ms for call in calls)
    assert max(later - earlier for earlier, later in pairwise(starts_ms)) < PAUSE_MS
    if FULL:
        assert wall_ms(calls) <= 1.15 * alone_ms


def check_recovery(calls: list[Call], repaired_ms: float, *, limit: int) -> None:
    """Checks that all slots are used within 2 s of the first answer after the outage.

    Without `CI_DEPTH=full`, half of the slots within 20 s are enough, because the machine may have
    other work.
    """
    after = [c for c in calls if c.outcome == 200 and c.start_ms >= repaired_ms and c.end_ms]
    first_ms = min(call.end_ms or 0 for call in after)
    in_time = [call for call in after if call.start_ms <= first_ms + (2000 if FULL else 20_000)]
    assert limit // (1 if FULL else 2) <= peak(in_time) <= limit
