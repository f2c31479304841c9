"""Watches the memory of an API process, and for how long the process answers nobody."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic

import httpx
import psutil

PAUSE_S = 0.01


@dataclass
class Watched:
    """Holds the highest figures so far.

    memory: bytes above the memory at the start.
    silent_s: CPU time that the process has used between a health check and its answer. It does not
    depend on other work of the machine, as elapsed time does.
    health_s: elapsed time of a health check.
    """

    memory: int = 0
    silent_s: float = 0.0
    health_s: float = 0.0
    checks: int = 0


@contextmanager
def in_background(check: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs `check` in a thread. Sets the event that `check` gets when the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=check, args=[stop])
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def watched(api: httpx.URL, pid: int) -> Iterator[Watched]:
    """Checks the health of the API in a thread, again and again, until the block ends."""
    found, process = Watched(), psutil.Process(pid)
    idle = process.memory_info().rss

    def check(stop: threading.Event) -> None:
        connection = HTTPConnection(api.host, api.port or 80, timeout=60)
        while not stop.wait(PAUSE_S):
            cpu_s, started = _cpu_s(pid), monotonic()
            connection.request("GET", "/health")
            assert connection.getresponse().read()
            found.silent_s = max(found.silent_s, _cpu_s(pid) - cpu_s)
            found.health_s = max(found.health_s, monotonic() - started)
            found.memory = max(found.memory, process.memory_info().rss - idle)
            found.checks += 1
        connection.close()

    with in_background(check):
        yield found
    assert found.checks, "no health check was answered"


def _cpu_s(pid: int) -> float:
    """Returns the CPU time of a process in seconds."""
    schedule = Path(f"/proc/{pid}/schedstat")  # the main thread, in ns; cpu_times() has only 10 ms
    return int(schedule.read_text().split()[0]) / 1e9


async def quiet(pid: int) -> None:
    """Waits until the process has used almost no CPU time for half a second.

    Raises TimeoutError after 100 s.
    """
    cpu_s = _cpu_s(pid)
    for _ in range(200):
        await asyncio.sleep(0.5)
        before, cpu_s = cpu_s, _cpu_s(pid)
        if cpu_s - before < 0.06:
            return
    raise TimeoutError
