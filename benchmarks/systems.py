"""Starts the systems (a), (b) and (c) as real processes that call the same provider.

`NAMES` in `report.py` describes the systems. System (c) is this project.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import redis.asyncio

from benchmarks.processes import START_S, Processes, answers, free_port, valkey
from benchmarks.provider import Provider
from shared.queue.redis_keys import Keys


@dataclass(slots=True)
class System:
    url: str
    processes: Processes
    redis_url: str = ""

    async def add_worker(self) -> int:
        """Adds a worker to system (c)."""
        return await self.processes.start("worker", "worker")

    async def add_api(self) -> int:
        """Adds an API process to system (c), and sets `url` to the address of the new process."""
        pid, self.url = await _api(self.processes, "api.main:app", "/health")
        return pid


Start = Callable[[Provider, int, int], AbstractAsyncContextManager[System]]


@asynccontextmanager
async def semaphore(provider: Provider, limit: int, workers: int) -> AsyncIterator[System]:  # noqa: ARG001 — it has no workers
    processes = Processes({**provider.environment, "MAX_CONCURRENT_REQUESTS": str(limit)})
    try:
        _, url = await _api(processes, "benchmarks.semaphore:app", "/docs")
        yield System(url, processes)
    finally:
        await processes.stop_all()


@asynccontextmanager
async def stock_arq(provider: Provider, limit: int, workers: int) -> AsyncIterator[System]:
    processes = Processes({**provider.environment, "MAX_CONCURRENT_REQUESTS": str(limit)})
    async with valkey(processes) as redis_url:
        processes.environment["REDIS_URL"] = redis_url
        try:
            _, url = await _api(processes, "benchmarks.stock_arq:app", "/docs")
            for _ in range(workers):
                await processes.start("worker", "arq", "benchmarks.stock_arq.WorkerSettings")
            await asyncio.sleep(2)  # arq does not report when a worker is ready
            yield System(url, processes, redis_url)
        finally:
            await processes.stop_all()


@asynccontextmanager
async def orchestrator(
    provider: Provider, limit: int, workers: int, **settings: str
) -> AsyncIterator[System]:
    processes = Processes(
        {**provider.environment, "MAX_CONCURRENT_REQUESTS": str(limit), **settings}
    )
    async with valkey(processes) as redis_url:
        processes.environment["REDIS_URL"] = redis_url
        try:
            system = System("", processes, redis_url)
            await system.add_api()
            for _ in range(workers):
                await system.add_worker()
            if workers:
                await answers(f"{system.url}/health/ready")
                await _ready(redis_url, workers)
            yield system
        finally:
            await processes.stop_all()


async def _ready(redis_url: str, workers: int) -> None:
    """Waits until all workers of system (c) have reported."""
    server = redis.asyncio.from_url(redis_url)  # type: ignore[no-untyped-call]
    async with server, asyncio.timeout(START_S):
        while await server.zcard(Keys().workers) < workers:
            await asyncio.sleep(0.01)


SYSTEMS: dict[str, Start] = {"a": semaphore, "b": stock_arq, "c": orchestrator}


async def _api(processes: Processes, app: str, path: str) -> tuple[int, str]:
    port = free_port()
    pid = await processes.start(
        "api", "uvicorn", app, "--port", str(port), "--log-level", "warning", "--no-access-log"
    )
    url = f"http://127.0.0.1:{port}"
    await answers(f"{url}{path}")
    return pid, url
