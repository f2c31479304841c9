"""Runs a module, and stops it when the parent process exits.

Usage: `python -m cli.parent_watch FD MODULE …`. FD is the read end of a pipe. Only the parent has
the write end. The kernel closes the write end whenever the parent exits, even after `kill -9`. This
works on Linux and on macOS.
"""

import os
import runpy
import signal
import sys
import threading

GRACE_S = 60.0  # seconds until the forced exit; longer than the default SHUTDOWN_GRACE_SECONDS


def _stop_at_end_of_file(fd: int) -> None:
    os.read(fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(1)


def main() -> None:
    fd, module = int(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    threading.Thread(target=_stop_at_end_of_file, args=(fd,), daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
