"""Runs an event loop in a thread, so that synchronous code can call asynchronous code."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, TypeVar
from weakref import finalize

STOP_S = 5.0

T = TypeVar("T")


class EventLoopThread:
    """Runs coroutines for other threads, even for threads that run an event loop themselves.

    The thread stops when `close` is called, when this object is garbage-collected, or when the
    interpreter exits.
    """

    def __init__(self, at_end: Callable[[], Awaitable[None]]) -> None:
        """Starts the thread.

        at_end: function that is called and awaited in the loop before the loop closes. The function
            must not refer to this object: this object would then never be garbage-collected.
        """
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._open: set[AsyncGenerator[Any, None]] = set()
        thread = threading.Thread(
            target=_run,
            args=(self._loop, self._open, at_end),
            name="orchestrator-client",
            daemon=True,
        )
        thread.start()
        # The finalizer runs once: when it is called, when this object is garbage-collected, or when
        # the interpreter exits.
        self.close = finalize(self, _stop, self._loop, thread, self._pid)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs the coroutine, and returns its result or raises its exception.

        If this thread is interrupted (Ctrl-C), the coroutine is cancelled. Raises RuntimeError if
        the client is closed before or during the call, or was created before a fork.
        """
        if not self.close.alive or os.getpid() != self._pid:
            coroutine.close()
            raise RuntimeError(
                "the client is closed, or was created before a fork: create a new client"
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise
        except CancelledError:
            raise RuntimeError("the client was closed during this call") from None

    def iterate(self, values: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yields the generator's values. A value of None would end the iteration."""

        async def next_value() -> T | None:
            return await anext(values, None)

        self._open.add(values)
        try:
            while (value := self.run(next_value())) is not None:
                yield value
        finally:
            if self.close.alive and os.getpid() == self._pid:
                # Does not wait: the garbage collector may run this in the thread of the event loop.
                asyncio.run_coroutine_threadsafe(_close(values, self._open), self._loop)


def _run(
    loop: asyncio.AbstractEventLoop,
    open_generators: set[AsyncGenerator[Any, None]],
    at_end: Callable[[], Awaitable[None]],
) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.run_until_complete(_finish(open_generators, at_end))
    loop.close()


async def _close(
    generator: AsyncGenerator[Any, None], open_generators: set[AsyncGenerator[Any, None]]
) -> None:
    await generator.aclose()
    open_generators.discard(generator)


async def _finish(
    open_generators: set[AsyncGenerator[Any, None]], at_end: Callable[[], Awaitable[None]]
) -> None:
    calls = _other_tasks()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    # shutdown_asyncgens closes an inner generator even while an outer generator still uses it.
    # Therefore the outer generators are closed first.
    for generator in tuple(open_generators):
        await generator.aclose()
    await asyncio.get_running_loop().shutdown_asyncgens()
    await at_end()
    await asyncio.gather(*_other_tasks(), return_exceptions=True)


def _other_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pid: int) -> None:
    """Stops the thread, and waits up to STOP_S until the thread has ended.

    Does not wait if the garbage collector calls this function in the thread itself.
    """
    if os.getpid() != pid:  # a forked process has no copy of the thread
        return
    with suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(loop.stop)
    if threading.current_thread() is not thread:
        thread.join(STOP_S)
