"""Starts an API, workers and the simulator as real processes, which a test can stop or kill."""

import asyncio
import json
import os
import random
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import cycle
from os import PathLike
from pathlib import Path
from typing import IO, Any

import httpx
from redis.asyncio import Redis

from shared.queue.redis_keys import Keys
from support.processes import PIPE, Process, start

DEADLINE_S = 60.0
CERTIFICATES = ssl.create_default_context()  # each client would read these for 20 ms


async def eventually(
    condition: Callable[[], Awaitable[bool]], deadline_s: float = DEADLINE_S
) -> None:
    """Waits until the condition is true. Raises TimeoutError after `deadline_s`."""
    async with asyncio.timeout(deadline_s):
        while not await condition():
            await asyncio.sleep(0.01)


async def queued(redis: Redis, keys: Keys, lane: str = "openrouter") -> int:
    """Returns the number of queued items of all jobs in the lane."""
    counts: list[bytes] = await redis.hvals(keys.depth(lane))  # type: ignore[misc]
    return sum(int(count) for count in counts)


async def stored(redis: Redis, keys: Keys) -> set[str]:
    """Returns the Redis keys of jobs and of the queue.

    Leaves out the keys of workers, reports and the history.
    """
    found = {key.decode() async for key in redis.scan_iter(match=f"{keys.prefix}*")}
    only_seen = (
        keys.workers,
        keys.worker_last_seen,
        keys.history(0)[:-1],
        keys.clock(""),
        keys.worker_report(""),
        keys.layout_version,
    )
    return {key for key in found if not key.startswith(only_seen)}


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
        output: IO[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Creates a deployment without starting it.

        output: file for the output of the API and the workers. Default: the test's own output.
        headers: headers that `api` sends with every request.
        """
        self.redis_url = redis_url
        self.keys = keys
        # Directory of the modules of processes that are started from now on. None: this checkout.
        self.code: PathLike[str] | None = None
        self._output = output
        self.environment = {
            name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")
        } | {
            "REDIS_URL": redis_url,
            "KEY_PREFIX": keys.prefix,
            "OPENROUTER_API_KEY": "test-key",
            "LEASE_SECONDS": "3",
            "LOG_LEVEL": "WARNING",
            **settings,
        }
        self.workers: list[Process] = []
        self._others: list[Process] = []
        self._clients: list[httpx.AsyncClient] = []
        self.api = self._client(headers or {})
        self.simulator = httpx.AsyncClient(timeout=10, verify=CERTIFICATES)

    async def start(self, *, workers: int) -> None:
        simulator_url = await self._start_simulator()
        self.environment |= {
            "OPENROUTER_BASE_URL": f"{simulator_url}/api/v1",
            "OLLAMA_BASE_URL": simulator_url,
        }
        self.simulator.base_url = httpx.URL(simulator_url)
        await self.start_api()
        for _ in range(workers):
            await self.add_worker()
        await self.ready(workers)

    async def start_api(self) -> None:
        """Starts an API. From now on, `api` is a client of this API."""
        self.api.base_url, self.api_process = await self._spawn_api()

    async def another_api(self) -> httpx.AsyncClient:
        """Starts another API, and waits until it is ready.

        Returns a client of this API, which sends the same headers as `api`.
        """
        client = self._client(dict(self.api.headers))
        client.base_url, _ = await self._spawn_api()

        async def ready() -> bool:
            try:
                return (await client.get("/health")).is_success
            except httpx.TransportError:
                return False

        await eventually(ready)
        return client

    async def restart_api(self) -> None:
        """Starts the API again at the address of `api`."""
        _, self.api_process = await self._spawn_api(self.api.base_url.port)

    def client(self, key: str, api: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
        """Returns another client of `api` or of the given API, with an API key."""
        client = self._client({"authorization": f"Bearer {key}"})
        client.base_url = (api or self.api).base_url
        return client

    async def add_worker(self, **settings: str) -> Process:
        worker = await self._spawn("worker", settings=settings)
        self.workers.append(worker)
        return worker

    async def ready(self, workers: int) -> None:
        """Waits until exactly that many workers are alive.

        On a busy machine, new interpreters that start at the same time need a minute.
        """
        await eventually(lambda: self._has_workers(workers), 2 * DEADLINE_S)

    async def simulate(self, **behaviour: object) -> None:
        (await self.simulator.put("/_sim/config", json=behaviour)).raise_for_status()

    async def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = (await self.simulator.get("/_sim/stats")).json()
        return stats

    async def batch(self, requests: list[dict[str, Any]], **options: Any) -> httpx.Response:
        return await self.api.post("/batch", json={"requests": requests}, **options)

    async def in_flight(self, count: int) -> None:
        """Waits until the simulator has at least `count` calls in flight."""

        async def reached() -> bool:
            return bool((await self.stats())["in_flight"] >= count)

        await eventually(reached)

    async def stop(self) -> None:
        for process in (*self.workers, *self._others):
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
        await asyncio.gather(*(p.wait() for p in (*self.workers, *self._others)))
        for client in (*self._clients, self.simulator):
            await client.aclose()

    def _client(self, headers: dict[str, str]) -> httpx.AsyncClient:
        client = httpx.AsyncClient(timeout=60, headers=headers, verify=CERTIFICATES)
        self._clients.append(client)
        return client

    async def _spawn_api(self, port: int | None = None) -> tuple[httpx.URL, Process]:
        port = port or free_port()
        process = await self._spawn(
            "uvicorn", "api.main:app", "--port", str(port), "--log-level", "warning"
        )
        self._others.append(process)
        return httpx.URL(f"http://127.0.0.1:{port}"), process

    async def restart_simulator(self, **behaviour: object) -> None:
        """Starts the simulator again at its address, with this behaviour from its first call."""
        await self._start_simulator(self.simulator.base_url.port, json.dumps(behaviour))

    async def _start_simulator(self, port: int | None = None, behaviour: str = "{}") -> str:
        process = await self._spawn(
            *("cli.simulator", "--port", str(port or free_port()), "--config", behaviour),
            stdout=PIPE,
        )
        self._others.append(process)
        self.simulator_process = process
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
    ) -> Process:
        return await start(
            module,
            *argv,
            directory=self.code,
            fresh=self.code is not None,
            environment=self.environment | (settings or {}),
            stdout=stdout or self._output,
            stderr=self._output,
        )


Start = Callable[..., Awaitable[Stack]]  # the type of the fixture `stack`


@asynccontextmanager
async def stacks(redis_url: str, keys: Keys) -> AsyncIterator[Start]:
    """Yields a function that starts a deployment. Stops all started deployments at the end."""
    async with AsyncExitStack() as exits:

        async def start(
            *, workers: int, code: Path | None = None, key: str | None = None, **settings: str
        ) -> Stack:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            stack = Stack(redis_url, keys, settings, headers=headers)
            stack.code = code
            exits.push_async_callback(stack.stop)
            await stack.start(workers=workers)
            return stack

        yield start


# These ports are below the range from which the operating system takes the local ports of
# connections and of servers that bind port 0. So no other program takes a port between the probe in
# `free_port` and the start of the server.
PORTS = range(15_000, 32_000)


def free_port() -> int:
    """Returns a TCP port that no server uses, and that no other test process returns."""
    while True:
        port = next(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _ports_of_process() -> Iterator[int]:
    """Yields each port of this process of pytest-xdist in turn, from a random one."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = PORTS[number::count]
    # Hypothesis seeds `random`, so that all processes would begin with the same port.
    first = random.SystemRandom().randrange(len(own))
    return cycle([*own[first:], *own[:first]])


_PORTS = _ports_of_process()
