"""Reads the calls from the simulator's ledger, and finds the process that made each call."""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import psutil
from redis import Redis

from cli.simulator.chat import item_of
from support.processes import Process
from support.search_depth import FULL
from support.stack import DEADLINE_S, Stack, eventually

# Time from the end of a call until its answer is in Redis. A busy machine needs the longer time.
STORE_MS = 300 if FULL else 1500


@dataclass(frozen=True, slots=True)
class Call:
    """Holds one line of the ledger. Times are ms of `time.monotonic`, which all processes share."""

    item: str
    dialect: str
    model: str
    key: str
    client: int  # local port of the worker's connection
    start_ms: float
    end_ms: float | None
    outcome: int | str | None

    def overlaps(self, start_ms: float, end_ms: float) -> bool:
        return self.start_ms <= end_ms and (self.end_ms is None or self.end_ms >= start_ms)


def now_ms() -> float:
    return time.monotonic() * 1000


async def ledger(stack: Stack) -> list[Call]:
    return [Call(**line) for line in (await stack.simulator.get("/_sim/ledger")).json()]


def calls_by_item(calls: Iterable[Call]) -> dict[str, list[Call]]:
    by_item: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_item[call.item].append(call)
    return by_item


def open_during(calls: Iterable[Call], start_ms: float, end_ms: float) -> set[str]:
    """Returns the items that had an open call at some moment between `start_ms` and `end_ms`."""
    return {call.item for call in calls if call.overlaps(start_ms, end_ms)}


def peak(calls: Iterable[Call]) -> int:
    """Returns the highest number of calls that were open at the same moment.

    A call that ends at the exact moment at which another starts is not open together with it.
    """
    changes = sorted(
        change
        for call in calls
        for change in ((call.start_ms, 1), (call.end_ms or float("inf"), -1))
    )
    running = highest = 0
    for _, change in changes:
        running += change
        highest = max(highest, running)
    return highest


def ports(process: Process) -> set[int]:
    """Returns the local ports of the process's TCP connections."""
    connections = psutil.Process(process.pid).net_connections("tcp")
    return {connection.laddr.port for connection in connections if connection.raddr}


async def open_calls(stack: Stack, *processes: Process) -> set[str]:
    """Returns the items for which the stopped processes have an open call."""
    theirs = set().union(*map(ports, processes))
    return {c.item for c in await ledger(stack) if c.end_ms is None and c.client in theirs}


async def unsettled(stack: Stack, *processes: Process) -> set[str]:
    """Returns the items for which the processes have called the provider and have a lease.

    The processes must be stopped, or their connection to Redis must be cut. Such a process may have
    received the answer already, but cannot store it in Redis.
    """
    leased, read_ms = _leased(stack), now_ms()
    theirs = set().union(*map(ports, processes))
    # Before it answers the last request, the simulator has read everything that the processes had
    # sent, on new connections, too.
    for _ in range(3):
        calls = await ledger(stack)
    before = {call.item: call for call in calls if call.start_ms <= read_ms}
    called = {item for item, call in before.items() if call.client in theirs}
    called |= {call.item for call in calls if call.start_ms > read_ms and call.client in theirs}
    return leased & called


def _leased(stack: Stack) -> set[str]:
    """Returns the items that have a lease.

    No other task runs meanwhile. On a busy machine, the tasks of a test may run for longer than the
    leases of a stopped process last.
    """
    keys, items = stack.keys, set[str]()
    with Redis.from_url(stack.redis_url, socket_timeout=DEADLINE_S) as redis:
        # Before it answers the second PING, Redis has read everything that the processes had sent.
        for _ in range(2):
            redis.ping()
        for key in redis.scan_iter(keys.leases("*")):
            leases: Any = redis.zrange(key, 0, -1)
            for lease in leases:
                item_id, _, _ = lease.decode().rpartition("@")
                job_id, _, place = item_id.rpartition(":")
                index, _, _ = place.partition(".")  # then the number of the route: see ids.lua
                payload: Any = redis.hget(keys.payloads(job_id), index)
                if payload:  # without a payload, another process has just settled the lease
                    chat = orjson.loads(payload)["a"][0]["chat"]
                    items.add(item_of(chat["messages"][-1]["content"]))
    return items


async def wait_for_calls(stack: Stack, *processes: Process) -> None:
    """Waits until at least one of the processes has an open call."""

    async def calling() -> bool:
        return bool(await open_calls(stack, *processes))

    await eventually(calling)


async def busiest(stack: Stack) -> Process:
    """Waits for an open call. Returns the running worker that has the most open calls."""
    alive = [worker for worker in stack.workers if worker.returncode is None]
    await wait_for_calls(stack, *alive)
    calls = {worker: len(await open_calls(stack, worker)) for worker in alive}
    return max(alive, key=calls.__getitem__)
