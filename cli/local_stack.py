"""Runs the whole stack on this machine, in child processes that stop when this process stops."""

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from cli.redis_start import RedisStartError, wait_for_redis
from cli.simulator.environment import simulated_environment
from shared.providers import Provider
from shared.queue.claims import Queue
from shared.queue.redis_keys import Keys
from shared.redis import embedded
from shared.redis.client import RedisUnavailable, connect
from shared.redis.outage_log import LOGGED_ELSEWHERE
from shared.settings import Settings
from shared.settings.unknown_settings import REPORTED

START_S = 30.0
RESTART_S = 1.0
SEE_OUTPUT = "see the output above for the reason"
STOP_S = 5.0  # time to stop, in addition to the grace period of the workers


class StartError(Exception):
    """The stack did not start. `str(error)` is the reason."""


@dataclass(slots=True)
class _Part:
    name: str
    argv: tuple[str, ...]
    environment: dict[str, str]  # variables of this part, added to the variables of all parts
    process: asyncio.subprocess.Process


class LocalStack:
    """Starts the API, the workers and what they need at the beginning of an `async with` block.

    The block begins when the API and all workers are ready. If a process of the stack exits
    during the block, the stack calls `notice` and restarts the process. The end of the block stops
    the stack. If the stack cannot start, raises StartError or EmbeddedServerError.

    rows: all providers; the simulator replaces them if it runs.
    workers: number of worker processes.
    port: the API's port. 0 selects a free port, which `url` contains.
    data_dir: the directory of the embedded Valkey, which runs unless REDIS_URL is set. Default:
        DATA_DIR.
    simulator: arguments of the simulator that replaces the providers. None: no simulator runs.
    environment: variables for all processes. They override the environment of this process.
    notice: called with a message when a process is restarted, or if Redis is unavailable.
    """

    def __init__(
        self,
        settings: Settings,
        rows: Mapping[str, Provider],
        *,
        workers: int,
        host: str = "127.0.0.1",
        port: int = 0,
        data_dir: Path | None = None,
        simulator: tuple[str, ...] | None = None,
        environment: dict[str, str] | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._rows = rows
        self._workers = workers
        self._address = (host, port)
        self._data_dir = data_dir or settings.data_dir
        self._simulator = simulator
        self._environment = {
            **os.environ,
            "DATA_DIR": str(self._data_dir),
            REPORTED: "1",
            **(environment or {}),
        }
        self._notice = notice
        self._parts: list[_Part] = []
        self._supervisors: list[asyncio.Task[None]] = []
        self._server: embedded.EmbeddedServer | None = None
        self.url = ""
        self.simulator_url = ""

    async def __aenter__(self) -> Self:
        self._alive, self._guard = os.pipe()
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _start(self) -> None:
        self._check_metrics_ports()
        with _reserve(*self._address) as listener:
            host, port = listener.getsockname()[:2]
            self.url = f"http://{host}:{port}"
            if self._settings.redis_url:
                # .env may be the only place where REDIS_URL is set.
                self._environment["REDIS_URL"] = self._settings.redis_url
            else:
                self._server = await asyncio.to_thread(embedded.use, self._data_dir, self._notice)
                self._environment["REDIS_URL"] = self._server.url
            if self._simulator is not None:
                await self._start_simulator(self._simulator)
            self._environment["PYTHONUNBUFFERED"] = "1"
            await self._wait_for_redis()
        await self._add("api", "cli.api_server", "--host", host, "--port", str(port))
        for number in range(1, self._workers + 1):
            await self._add(
                f"worker {number}", "worker", environment=self._worker_environment(number)
            )
        await self._wait_until_ready()
        self._supervisors = [asyncio.create_task(self._supervise(part)) for part in self._parts]

    async def _wait_for_redis(self) -> None:
        keys = Keys(self._environment.get("KEY_PREFIX", self._settings.key_prefix))
        try:
            await wait_for_redis(self._environment["REDIS_URL"], keys, START_S, self._notice)
        except RedisStartError as error:
            raise StartError(str(error)) from None

    def _check_metrics_ports(self) -> None:
        """Raises StartError if the port of a worker's metrics is not available."""
        first = self._settings.worker_metrics_port
        for port in range(first, first + self._workers) if first else ():
            try:
                socket.create_server(("", port)).close()  # as the worker does
            except (OSError, OverflowError) as error:  # OverflowError: above 65,535
                known = isinstance(error, OSError) and error.errno
                reason = os.strerror(known) if known else "there is no such port"
                raise StartError(
                    f"WORKER_METRICS_PORT: can't listen on port {port}: {reason}."
                    " Choose another port."
                ) from None

    async def _start_simulator(self, argv: tuple[str, ...]) -> None:
        part = await self._add(
            "simulator", "cli.simulator", "--port", "0", *argv, stdout=asyncio.subprocess.PIPE
        )
        assert part.process.stdout is not None  # noqa: S101 — stdout=PIPE was passed
        line = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                line = (await part.process.stdout.readline()).decode()
        if "http" not in line:
            raise StartError(f"the provider simulator did not start; {SEE_OUTPUT}")
        self.simulator_url = url = line.split()[-1]
        part.argv = ("cli.simulator", "--port", url.rpartition(":")[2], *argv)
        # The simulated stack has its own key prefix, because requests that wait for the real
        # providers must not get simulated answers.
        self._environment["KEY_PREFIX"] = f"{self._settings.key_prefix}simulated:"
        self._environment |= simulated_environment(url, self._rows)

    def _worker_environment(self, number: int) -> dict[str, str]:
        port = self._settings.worker_metrics_port
        metrics = {"WORKER_METRICS_PORT": str(port + number - 1)} if port else {}
        return {LOGGED_ELSEWHERE: "1", **metrics}

    async def _add(
        self,
        name: str,
        *argv: str,
        environment: dict[str, str] | None = None,
        stdout: int | None = None,
    ) -> _Part:
        environment = environment or {}
        part = _Part(name, argv, environment, await self._spawn(argv, environment, stdout))
        self._parts.append(part)
        return part

    async def _spawn(
        self, argv: tuple[str, ...], environment: dict[str, str], stdout: int | None = None
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            # -P, because modules in the working directory must not hide the project's modules.
            *(sys.executable, "-P", "-m", "cli.parent_watch", str(self._alive), *argv),
            env=self._environment | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            pass_fds=(self._alive,),
            start_new_session=True,  # Ctrl-C must reach only this process, which stops the parts
        )

    async def _wait_until_ready(self) -> None:
        """Waits until the API and all workers are ready.

        Raises StartError if a process exits, or if they are not ready within START_S.
        """
        # The list of workers is read from Redis, because the API may require an API key.
        redis = connect(self._environment["REDIS_URL"], log_outages=False)
        keys = Keys(self._environment.get("KEY_PREFIX", self._settings.key_prefix))
        queue = Queue(redis, keys, lease_s=self._settings.lease_seconds)
        async with httpx.AsyncClient(base_url=self.url) as client:
            try:
                async with asyncio.timeout(START_S):
                    while not await _healthy(client) or await _live_workers(queue) < self._workers:
                        self._raise_if_exited()
                        await asyncio.sleep(0.05)
            except TimeoutError:
                raise StartError(
                    f"the API and {self._workers} workers were not ready after {START_S:.0f} s;"
                    f" {SEE_OUTPUT}"
                ) from None
            finally:
                await redis.aclose()

    def _raise_if_exited(self) -> None:
        for part in self._parts:
            if part.process.returncode is not None:
                code = part.process.returncode
                raise StartError(f"{part.name} exited with code {code}; {SEE_OUTPUT}")

    async def _supervise(self, part: _Part) -> None:
        while True:
            code = await part.process.wait()
            self._notice(f"{part.name} exited with code {code}; restarting it")
            await asyncio.sleep(RESTART_S)
            part.process = await self._spawn(part.argv, part.environment)

    async def _stop(self) -> None:
        for task in self._supervisors:
            task.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        # The parts stop in the order in which requests pass through them. First, the API answers
        # its clients. Then, the workers end their calls. The simulator, which the workers call,
        # stops last.
        for kind in ("api", "worker", "simulator"):
            await self._terminate(
                [part.process for part in self._parts if part.name.startswith(kind)]
            )
        os.close(self._guard)
        os.close(self._alive)
        if self._server:
            self._server.release()

    async def _terminate(self, processes: list[asyncio.subprocess.Process]) -> None:
        running = [process for process in processes if process.returncode is None]
        for process in running:
            process.terminate()
        try:
            async with asyncio.timeout(self._settings.shutdown_grace_seconds + STOP_S):
                await asyncio.gather(*(process.wait() for process in running))
        except TimeoutError:
            for process in running:
                if process.returncode is None:
                    process.kill()


async def _healthy(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).is_success
    except httpx.TransportError:
        return False


async def _live_workers(queue: Queue) -> int:
    try:
        return len(await queue.workers())
    except RedisUnavailable:
        return 0


def _reserve(host: str, port: int) -> socket.socket:
    """Returns a socket that listens on the address of the API.

    The socket reserves the address until it is closed, just before the API starts. Raises
    StartError if the address is not available.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        number = error.errno or 0
        is_name = number < 0  # socket.create_server has turned socket.gaierror into an OSError
        is_address = is_name or number == errno.EADDRNOTAVAIL
        reason = "The host has no IPv4 address" if is_name else os.strerror(number)
        advice = "address with --host" if is_address else "port with --port"
        raise StartError(
            f"can't listen on {host}:{port}: {reason}. Choose another {advice}."
        ) from None
