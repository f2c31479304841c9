"""The parts of a deployment as real processes, stopped by their pid."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from os import PathLike
from typing import IO, Any

import httpx

from shared.keys import Keys

DEADLINE_S = 30.0


async def eventually(
    condition: Callable[[], Awaitable[bool]], deadline_s: float = DEADLINE_S
) -> None:
    """Asks until it holds; fails the test when it does not in time."""
    async with asyncio.timeout(deadline_s):
        while not await condition():
            await asyncio.sleep(0.01)


def chat(
    content: str, *, provider: str = "openrouter", model: str = "m", **fields: Any
) -> dict[str, Any]:
    return {
        "provider": provider,
        "model": model,
        "messages": [{"role": "user", "content": content}],
        **fields,
    }


class Stack:
    def __init__(
        self,
        redis_url: str,
        keys: Keys,
        settings: dict[str, str],
        *,
        output: IO[bytes] | None = None,  # of API and workers; else the test's
    ) -> None:
        self.redis_url = redis_url
        self.keys = keys
        self.code: PathLike[str] | None = (
            None  # of the processes started from now on; else this checkout's
        )
        self._output = output
        self._environment = {
            name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")
        } | {
            "REDIS_URL": redis_url,
            "KEY_PREFIX": keys.prefix,
            "OPENROUTER_API_KEY": "test-key",
            "LEASE_SECONDS": "1",
            "LOG_LEVEL": "WARNING",
            **settings,
        }
        self.workers: list[asyncio.subprocess.Process] = []
        self._others: list[asyncio.subprocess.Process] = []
        self.api = httpx.AsyncClient(timeout=60)
        self.simulator = httpx.AsyncClient(timeout=10)

    async def start(self, *, workers: int) -> None:
        simulator_url = await self._start_simulator()
        self._environment |= {
            "OPENROUTER_BASE_URL": f"{simulator_url}/api/v1",
            "OLLAMA_BASE_URL": simulator_url,
        }
        self.simulator.base_url = httpx.URL(simulator_url)
        await self.start_api()
        for _ in range(workers):
            await self.add_worker()
        await self.ready(workers)

    async def start_api(self) -> None:
        """From now on `api` is this one's client."""
        port = _free_port()
        self.api.base_url = httpx.URL(f"http://127.0.0.1:{port}")
        self.api_process = await self._spawn(
            "uvicorn", "api.main:app", "--port", str(port), "--log-level", "warning"
        )
        self._others.append(self.api_process)

    async def add_worker(self, **settings: str) -> asyncio.subprocess.Process:
        worker = await self._spawn("worker", settings=settings)
        self.workers.append(worker)
        return worker

    async def ready(self, workers: int) -> None:
        """Waits until exactly so many are alive."""
        await eventually(lambda: self._has_workers(workers))

    async def simulate(self, **behaviour: object) -> None:
        (await self.simulator.put("/_sim/config", json=behaviour)).raise_for_status()

    async def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = (await self.simulator.get("/_sim/stats")).json()
        return stats

    async def batch(self, requests: list[dict[str, Any]], **options: Any) -> httpx.Response:
        return await self.api.post("/batch", json={"requests": requests}, **options)

    async def in_flight(self, count: int) -> None:
        """Waits until so many calls run at the simulator."""

        async def reached() -> bool:
            return bool((await self.stats())["in_flight"] >= count)

        await eventually(reached)

    async def stop(self) -> None:
        for process in (*self.workers, *self._others):
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
        await asyncio.gather(*(p.wait() for p in (*self.workers, *self._others)))
        await self.api.aclose()
        await self.simulator.aclose()

    async def _start_simulator(self) -> str:
        process = await self._spawn("cli.simulator", stdout=asyncio.subprocess.PIPE)
        self._others.append(process)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)
        return line.decode().split()[-1]

    async def _has_workers(self, count: int) -> bool:
        try:
            readiness = (await self.api.get("/health/ready")).json()
        except httpx.TransportError:
            return False
        return bool(readiness["workers"] == count)

    async def _spawn(
        self,
        module: str,
        *argv: str,
        stdout: int | None = None,
        settings: dict[str, str] | None = None,
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *argv,
            cwd=self.code,
            env=self._environment | (settings or {}),
            stdout=stdout or self._output,
            stderr=self._output,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
