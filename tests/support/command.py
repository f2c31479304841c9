"""Runs the `orchestrator` command as a process."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from support.processes import PIPE, Process, start
from support.stack import Stack

ORCHESTRATOR = str(Path(sys.executable).with_name("orchestrator"))


async def run(
    environment: dict[str, str],
    *argv: str,
    directory: Path | None = None,
    program: str = ORCHESTRATOR,
) -> tuple[int, str]:
    """Runs a command to its end. Returns the exit code and all output."""
    code, output, _ = await _complete(
        (program, *argv), environment, directory, stderr=asyncio.subprocess.STDOUT
    )
    return code, output


async def execute(
    environment: dict[str, str],
    *argv: str,
    directory: Path | None = None,
    program: str = ORCHESTRATOR,
) -> tuple[int, str, str]:
    """Runs a command to its end. Returns the exit code, stdout and stderr."""
    return await _complete((program, *argv), environment, directory, stderr=asyncio.subprocess.PIPE)


async def _complete(
    argv: tuple[str, ...], environment: dict[str, str], directory: Path | None, *, stderr: int
) -> tuple[int, str, str]:
    """Runs a command in a new interpreter, which reads the locale of `environment`."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), (errors or b"").decode()


class Up:
    """Describes a running `orchestrator up`."""

    def __init__(self, process: asyncio.subprocess.Process, output: str, data_dir: str) -> None:
        self.data_dir = data_dir
        self.process = process
        self.output = output
        [self.url] = re.findall(r"API +(http://\S+)", output)

    async def is_gone(self) -> bool:
        """Returns whether all processes of the command have ended, also the Redis keeper."""
        port = self.url.rpartition(":")[2]
        commands = [command for _, _, command in await processes()]
        return not any(f"--port {port}" in c or self.data_dir in c for c in commands)


async def processes() -> list[tuple[int, int, str]]:
    """Returns the pid, the parent's pid and the command line of each process on this machine."""
    ps = await asyncio.create_subprocess_exec(
        *("ps", "axww", "-o", "pid=,ppid=,command="), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await ps.communicate()
    lines = [line.split(None, 2) for line in output.decode().splitlines()]
    return [(int(pid), int(parent), command) for pid, parent, command in lines]


@asynccontextmanager
async def up(
    environment: dict[str, str],
    *argv: str,
    directory: Path | None = None,
    stderr: int | IO[bytes] = asyncio.subprocess.DEVNULL,
) -> AsyncIterator[Up]:
    """Starts `orchestrator up`, and waits until it is ready. Kills the process at the end.

    Without `--port` in `argv`, the command listens on a free port.
    """
    port = () if "--port" in argv else ("--port", "0")
    process = await asyncio.create_subprocess_exec(
        *(ORCHESTRATOR, "up", *port, *argv),
        env=environment,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            output = await process.stdout.readuntil(b"Ctrl-C\n")
        yield Up(process, output.decode(), environment["DATA_DIR"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Orchestrator:
    """Runs the command in `directory`, against the API of `stack`."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        inherited = {"PYTHONPATH": path} if (path := os.environ.get("PYTHONPATH")) else {}
        self.environment = inherited | {
            "PATH": "/usr/bin:/bin",
            "TERM": "xterm",
            "ORCHESTRATOR_URL": str(stack.api.base_url),
            "XDG_STATE_HOME": str(directory / ".state"),
        }
        self.directory = directory
        self._processes: list[Process] = []

    async def stop(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def start(
        self, *argv: str, url: str | None = None, terminal: int | None = None
    ) -> Process:
        output = PIPE if terminal is None else terminal
        process = await start(
            "cli.main:main",
            *argv,
            environment=self.environment | ({"ORCHESTRATOR_URL": url} if url else {}),
            directory=self.directory,
            stdin=PIPE,
            stdout=output,
            stderr=output,
        )
        self._processes.append(process)
        return process

    async def __call__(
        self, *argv: str, stdin: bytes = b"", url: str | None = None
    ) -> tuple[int | None, str, str]:
        """Runs the command to its end. Returns the exit code, stdout and stderr."""
        process = await self.start(*argv, url=url)
        async with asyncio.timeout(60):
            output, errors = await process.communicate(stdin)
        return process.returncode, output.decode(), errors.decode()
