"""Computes sums over all results of a job, in the background."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

WAIT_S = 1.0  # limit of the time for which a list waits for its sums
MAX_SUMS = 200  # limit of the sums that run or wait to run; a later list starts the others
_CONCURRENT = 2


class Sums:
    """Runs no sum twice at the same time, and lets a list wait up to `WAIT_S` for its sums.

    A sum that takes longer continues. The function that computes a sum also stores it, so that a
    later list has it.
    """

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._room = asyncio.Semaphore(_CONCURRENT)

    async def gather(self, wanted: Mapping[str, Callable[[], Awaitable[T]]]) -> dict[str, T]:
        """Returns the sums that end within `WAIT_S`. A sum that fails is left out, too."""
        for key, compute in wanted.items():
            if key not in self._running and len(self._running) < MAX_SUMS:
                self._running[key] = task = asyncio.create_task(self._compute(compute))
                task.add_done_callback(partial(self._forget, key))
        tasks = {key: self._running[key] for key in wanted if key in self._running}
        if tasks:
            await asyncio.wait(tasks.values(), timeout=WAIT_S)
        done = {key: task for key, task in tasks.items() if task.done() and not task.cancelled()}
        return {key: task.result() for key, task in done.items() if not task.exception()}

    async def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _compute(self, compute: Callable[[], Awaitable[T]]) -> T:
        async with self._room:
            return await compute()

    def _forget(self, key: str, task: asyncio.Task[Any]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # otherwise asyncio logs that the exception was never read


@asynccontextmanager
async def running_sums() -> AsyncIterator[Sums]:
    """Yields an object that runs sums. At the end, cancels the sums that still run."""
    sums = Sums()
    try:
        yield sums
    finally:
        await sums.close()
