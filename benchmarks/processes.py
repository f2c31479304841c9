"""Starts the processes of a system, and measures their CPU time and memory."""

import asyncio
import os
import random
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import psutil
import redis.asyncio

from shared.redis import embedded

START_S = 30.0


class Processes:
    """Starts and stops the processes of a system. Their roles are `api`, `worker` and `redis`."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = os.environ | {"LOG_LEVEL": "WARNING"} | environment
        self.by_role: dict[str, list[psutil.Process]] = {}
        self._children: dict[int, asyncio.subprocess.Process] = {}

    async def start(self, role: str, *argv: str, stdout: int | None = None) -> int:
        """Starts `python -m …` as a process. Returns the pid of the process."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *argv),
            env=self.environment,
            stdout=stdout,
            stderr=asyncio.subprocess.DEVNULL,  # stock arq logs two lines per job
        )
        self._children[child.pid] = child
        self.add(role, child.pid)
        return child.pid

    def add(self, role: str, pid: int) -> None:
        """Adds a process that other code starts and stops."""
        self.by_role.setdefault(role, []).append(psutil.Process(pid))

    async def first_line(self, pid: int) -> str:
        stdout = self._children[pid].stdout
        assert stdout is not None  # noqa: S101 — `start` was given a pipe
        return (await asyncio.wait_for(stdout.readline(), START_S)).decode()

    async def stop(self, role: str, pid: int) -> None:
        self.by_role[role] = [process for process in self.by_role[role] if process.pid != pid]
        child = self._children.pop(pid)
        if child.returncode is None:
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), START_S)
        except TimeoutError:
            child.kill()
            await child.wait()

    async def stop_all(self) -> None:
        pids = {process.pid: role for role, all_ in self.by_role.items() for process in all_}
        for pid in list(self._children):
            await self.stop(pids[pid], pid)

    def cpu_s(self) -> dict[str, float]:
        """Returns the CPU time (user and system) that the processes have used, by role."""
        return {
            role: sum(sum(process.cpu_times()[:2]) for process in processes)
            for role, processes in self.by_role.items()
        }

    def rss_mb(self) -> dict[str, float]:
        """Returns the resident memory of the largest process, by role."""
        return {
            role: max(process.memory_info().rss for process in processes) / 1e6
            for role, processes in self.by_role.items()
            if processes
        }


# These ports are below the range from which the operating system takes the local ports of
# connections, so no other program takes a port between the probe in `free_port` and the server.
PORTS = range(10_000, 15_000)


def free_port() -> int:
    while True:
        port = random.choice(PORTS)  # noqa: S311 — not a secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@asynccontextmanager
async def valkey(processes: Processes) -> AsyncIterator[str]:
    """Runs the embedded server in a new directory. Yields the server's URL."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        server = await asyncio.to_thread(embedded.use, Path(directory))
        client = redis.asyncio.from_url(server.url)  # type: ignore[no-untyped-call]
        processes.add("redis", (await client.info("server"))["process_id"])
        await client.aclose()
        try:
            yield server.url
        finally:
            server.release()


async def until(condition: Callable[[], bool], *, deadline_s: float = 600) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.01)


async def answers(url: str, deadline_s: float = START_S) -> None:
    """Waits until a GET of the URL returns a status below 500."""
    async with httpx.AsyncClient() as client, asyncio.timeout(deadline_s):
        while True:
            try:
                if (await client.get(url)).status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
