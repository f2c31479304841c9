"""Limits the bytes that the work of one process keeps in memory."""

import asyncio
from collections import deque
from typing import Self


class MemoryFull(Exception):
    """The bytes do not fit in the limit, beside the bytes that are reserved already."""


class MemoryBudget:
    """Limits the bytes that all pieces of work reserve together.

    `wait_and_add` waits until the bytes fit. `add` fails immediately if they do not fit. `force`
    may exceed the limit. No reservation waits while it holds bytes, so reservations cannot wait for
    each other.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting = deque[tuple[int, asyncio.Future[None]]]()

    def reservation(self) -> "Reservation":
        return Reservation(self)

    def add(self, size: int) -> None:
        """Reserves bytes without waiting. Raises MemoryFull if they do not fit."""
        if self._used + size > self._limit:
            raise MemoryFull
        self._used += size

    async def wait_and_add(self, size: int) -> int:
        """Waits for earlier callers of this method and for free bytes, and reserves `size` bytes.

        Returns the number of reserved bytes: `size`, or the limit if `size` is larger.
        """
        size = min(size, self._limit)
        if self._waiting or self._used + size > self._limit:
            entry = (size, asyncio.get_running_loop().create_future())
            self._waiting.append(entry)
            try:
                await entry[1]
            except asyncio.CancelledError:
                given = not entry[1].cancelled()  # the bytes were given at the same moment
                self.remove(size if given else 0)
                raise
        else:
            self._used += size
        return size

    def force(self, size: int) -> None:
        """Reserves bytes that are in memory already, even beyond the limit."""
        self._used += size

    def remove(self, size: int) -> None:
        """Releases bytes, and reserves free bytes for the waiting callers, in their order."""
        self._used -= size
        while self._waiting:
            next_size, future = self._waiting[0]
            if not future.cancelled():
                if self._used + next_size > self._limit:
                    return
                self._used += next_size
                future.set_result(None)
            self._waiting.popleft()


class Reservation:
    """Holds the bytes that one piece of work has reserved, until the end of a `with` block."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resize(0)

    def resize(self, size: int) -> None:
        """Changes the number of reserved bytes to `size`. Raises MemoryFull if they do not fit."""
        if size > self._size:
            self._budget.add(size - self._size)
        elif size < self._size:
            self._budget.remove(self._size - size)
        self._size = size

    async def replace(self, size: int) -> None:
        """Releases the reserved bytes, then waits for `size` free bytes and reserves these."""
        self.resize(0)
        self._size = await self._budget.wait_and_add(size)
