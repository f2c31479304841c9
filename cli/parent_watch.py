"""`python -m cli.parent_watch FD MODULE …`: runs a module that stops when its parent is gone.

FD is the read end of a pipe whose write end only the parent holds: the kernel closes it however the
parent ends, by `kill -9` too. Works alike on Linux and macOS.
"""

import os
import runpy
import signal
import sys
import threading

GRACE_S = 60.0  # above SHUTDOWN_GRACE_SECONDS


def _stop_at_end_of(fd: int) -> None:
    os.read(fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(1)


def main() -> None:
    fd, module = int(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    threading.Thread(target=_stop_at_end_of, args=(fd,), daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
