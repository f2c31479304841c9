"""Starts the project's modules as processes, through the fork server."""

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from os import PathLike
from pathlib import Path
from typing import IO

from support.fork_server import Request

# Importing these modules neither reads the environment nor starts a thread.
IMPORTED = ("uvicorn.main", "uvloop", "api.app", "worker.factory", "cli.main", "cli.simulator")
PIPE, STDOUT = subprocess.PIPE, subprocess.STDOUT
STREAM_LIMIT = 2**26  # limit of the length of a line that a test reads from a pipe

File = int | IO[bytes] | None  # PIPE, a file, or None for the file of the tests' own process


class Process:
    """Behaves like `asyncio.subprocess.Process`. The parent of the process is the fork server."""

    def __init__(
        self,
        pid: int,
        exit_code: asyncio.StreamReader,
        connection: asyncio.StreamWriter,
        *,
        stdin: asyncio.StreamWriter | None,
        stdout: asyncio.StreamReader | None,
        stderr: asyncio.StreamReader | None,
    ) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._connection = connection
        self._waiting = asyncio.create_task(self._wait(exit_code))

    async def wait(self) -> int:
        return await asyncio.shield(self._waiting)

    async def communicate(self, text: bytes = b"") -> tuple[bytes, bytes]:
        """Sends `text` to stdin. Returns the output on stdout and stderr, if they are pipes."""
        if self.stdin:
            self.stdin.write(text)
            self.stdin.close()
        output, errors = await asyncio.gather(_rest(self.stdout), _rest(self.stderr))
        await self.wait()
        return output, errors

    def send_signal(self, signum: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and its exit code is on the way
                os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def _wait(self, exit_code: asyncio.StreamReader) -> int:
        self.returncode = int(await exit_code.readline())
        self._connection.close()
        return self.returncode


async def start(
    module: str,
    *argv: str,
    environment: Mapping[str, str],
    directory: str | PathLike[str] | None = None,
    fresh: bool = False,
    stdin: File = subprocess.DEVNULL,
    stdout: File = None,
    stderr: File = None,
) -> Process:
    """Starts a process that runs `python -m module …`, or a function for `module:function`.

    directory: working directory. Default: the working directory of the tests.
    fresh: whether the process starts a new interpreter, which imports from `directory`.
    """
    request = Request(
        argv=[module, *argv],
        environment=dict(environment),
        directory=os.fspath(directory or Path.cwd()),
        fresh=fresh,
    )
    ends = [_open(0, stdin), _open(1, stdout)]
    ends.append((os.dup(ends[1][0]), None) if stderr == STDOUT else _open(2, stderr))
    child_ends, own_ends = zip(*ends, strict=True)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_fork_server())
    body = json.dumps(request).encode()
    socket.send_fds(connection, [len(body).to_bytes(4)], child_ends)
    connection.sendall(body)
    for fd in child_ends:
        os.close(fd)
    replies, writer = await asyncio.open_unix_connection(sock=connection)
    return Process(
        int(await replies.readline()),
        replies,
        writer,
        stdin=await _writer(own_ends[0]),
        stdout=await _reader(own_ends[1]),
        stderr=await _reader(own_ends[2]),
    )


def _open(fd: int, file: File) -> tuple[int, int | None]:
    """Returns the child's end of the file, and this process's end if the file is a pipe."""
    match file:
        case subprocess.PIPE:
            reading, writing = os.pipe()
            return (reading, writing) if fd == 0 else (writing, reading)
        case subprocess.DEVNULL:
            return os.open(os.devnull, os.O_RDWR), None
        case None:
            return os.dup(fd), None
        case int():
            return os.dup(file), None
        case _:
            return os.dup(file.fileno()), None


async def _reader(fd: int | None) -> asyncio.StreamReader | None:
    if fd is None:
        return None
    reader = asyncio.StreamReader(limit=STREAM_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
    )
    return reader


async def _writer(fd: int | None) -> asyncio.StreamWriter | None:
    if fd is None:
        return None
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(fd, "wb")
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def _rest(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read() if stream else b""


@cache
def _fork_server() -> str:
    """Starts the fork server once. Returns the path of its socket."""
    directory = tempfile.TemporaryDirectory(prefix="fork-")
    path = f"{directory.name}/s"
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("fork_server.py"), path, *IMPORTED],
        stdin=PIPE,
        stdout=PIPE,
    )
    assert server.stdin
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"
    server.stdout.close()

    def stop() -> None:
        server.communicate()
        directory.cleanup()

    atexit.register(stop)
    return path
