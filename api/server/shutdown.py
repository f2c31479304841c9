"""Notices a shutdown before uvicorn begins to wait for open requests."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_shutdown_signal(notify: Callable[[], None]) -> Iterator[None]:
    """Calls `notify` on SIGTERM and SIGINT, in addition to the handlers that were set before.

    uvicorn waits for open requests before it ends the lifespan. Requests that wait for a job, and
    streams, must therefore end earlier. Outside of the main thread, `notify` is never called,
    because only the main thread can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(notify)
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
