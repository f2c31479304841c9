"""Counts the commands that each run of a script makes in Redis, whatever the machine's speed is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.redis.client import Script

MAX_COMMANDS = 2500  # limit of one run; so many take about 5 ms
MAX_RUN_MS = 5


@dataclass
class Costs:
    """Holds the costs of the runs, in the order of the runs."""

    commands: list[int] = field(default_factory=list)
    durations_ms: list[float] = field(default_factory=list)


async def _spent(redis: Redis) -> tuple[int, float]:
    """Returns the number of commands so far, and the time that scripts took."""
    # In a script, because redis-py would parse the reply, which takes ten times as long.
    text: bytes = await redis.eval("return redis.call('INFO', 'commandstats')", 0)  # type: ignore[misc]
    calls = sum(map(int, re.findall(rb":calls=(\d+)", text)))
    return calls, sum(map(int, re.findall(rb"cmdstat_evalsha:calls=\d+,usec=(\d+)", text))) / 1000


@contextmanager
def script_costs(redis: Redis) -> Iterator[Costs]:
    """Records the cost of each script that runs in the block.

    `redis` must be a client of a server that nobody else uses.
    """
    costs, run = Costs(), Script.__call__

    async def counted(script: Script, *args: Any, **options: Any) -> Any:
        commands, time_ms = await _spent(redis)
        reply = await run(script, *args, **options)
        after, after_ms = await _spent(redis)
        costs.commands.append(after - commands)
        costs.durations_ms.append(after_ms - time_ms)
        return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Script, "__call__", counted)
        yield costs
