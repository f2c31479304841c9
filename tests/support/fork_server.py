"""Forks processes of the project in milliseconds; a new interpreter would take a second.

`python fork_server.py SOCKET MODULE…` imports the modules once, and then serves the Unix socket.
Each connection sends one request: the length in four bytes, a `Request` as JSON, and the file
descriptors of stdin, stdout and stderr. The server forks a child, which runs the module like
`python -m`. The reply is two lines: the child's pid, and the child's exit code after the child has
ended. If the connection is closed earlier, the server kills the child, so that no process outlives
the tests. The server ends when its stdin is closed.

Tests of the command, the README and the images start the same modules in a new interpreter.
"""

import gc
import importlib
import importlib.resources
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import TypedDict


class Request(TypedDict):
    argv: list[str]  # `module` or `module:function`, followed by the arguments
    environment: dict[str, str]
    directory: str
    fresh: bool  # True: a new interpreter, because `directory` has another version of the modules


class ForkServer:
    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._wake, wake = socket.socketpair()
        self._wake.settimeout(0)
        wake.settimeout(0)
        self._opened = [self._listener, self._wake, wake]
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, which end the server
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._children: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        for source in (sys.stdin.fileno(), self._listener, self._wake):
            self._selector.register(source, selectors.EVENT_READ)

    def serve(self) -> Request | None:
        """Forks children. Returns the request in a child, and None in the server at its end."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == sys.stdin.fileno():
                    self._kill(*self._children)
                    return None
                if key.fileobj is self._listener:
                    if request := self._fork():
                        return request
                elif key.fileobj is self._wake:
                    self._wake.recv(4096)
                    self._reap()
                else:  # the tests send nothing more, so they have closed the connection
                    self._selector.unregister(key.fileobj)
                    self._kill(*(pid for pid, c in self._children.items() if c is key.fileobj))

    def _fork(self) -> Request | None:
        connection, _ = self._listener.accept()
        size, fds, _, _ = socket.recv_fds(connection, 4, 3)
        with connection.makefile("rb") as stream:
            request: Request = json.loads(stream.read(int.from_bytes(size)))
        pid = os.fork()
        if pid == 0:
            self._become(request, fds, connection)
            return request
        for fd in fds:
            os.close(fd)
        self._children[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ)
        connection.sendall(b"%d\n" % pid)
        return None

    def _become(self, request: Request, fds: list[int], connection: socket.socket) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for opened in (*self._opened, *self._children.values(), connection):
            opened.close()
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
            os.close(fd)
        sys.stdout = open(1, "w", buffering=1 if os.isatty(1) else -1)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[0] = request["directory"]
        sys.argv = request["argv"]

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                connection = self._children.pop(pid)
                with suppress(KeyError):
                    self._selector.unregister(connection)
                with suppress(OSError):
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
                connection.close()

    def _kill(self, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def link_scripts() -> None:
    """Links the Lua scripts once, so that the children need not link them."""
    scripts = importlib.import_module("shared.queue.scripts")
    for file in importlib.resources.files("shared.queue").joinpath("lua").iterdir():
        if file.name.endswith(".lua"):
            scripts.linked(file.name.removesuffix(".lua"))


def main() -> None:
    sys.path[0] = os.getcwd()  # noqa: PTH109 — like `python -m`, instead of this file's directory
    for module in sys.argv[2:]:
        importlib.import_module(module)
    link_scripts()
    for module in [name for name in sys.modules if name.startswith("cli.")]:
        del sys.modules[module]  # these modules check on import whether stdout is a terminal
    assert threading.active_count() == 1  # a fork copies no other thread
    gc.freeze()
    server = ForkServer(sys.argv[1])
    os.write(1, b"ready\n")
    if request := server.serve():
        module, _, function = request["argv"][0].partition(":")
        if request["fresh"]:
            os.execv(sys.executable, [sys.executable, "-m", *request["argv"]])
        if function:  # the script that pip installs does the same
            sys.exit(getattr(importlib.import_module(module), function)())
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
