"""Waits for the memory that a large answer takes, while the call that reads the answer runs."""

import asyncio

from shared.memory_budget import Reservation


async def reserve(memory: Reservation, limit: asyncio.Timeout, size: int) -> None:
    """Waits until `size` bytes are free. The wait does not count as time of the call."""
    if limit.expired():  # the next await is cancelled
        return
    loop, until = asyncio.get_running_loop(), limit.when()
    started = loop.time()
    limit.reschedule(None)
    await memory.replace(size)
    limit.reschedule(None if until is None else until + loop.time() - started)
