"""Divides work that takes long, so that one large request does not delay the others."""

import asyncio

LARGE_BYTES = 256 * 1024  # size of a text that takes milliseconds to parse or to encode
_ROUNDS = 3  # rounds of the event loop in which a small request is read, runs and is answered


async def pause() -> None:
    """Lets other tasks run between two long steps. A thread would not help: it holds the GIL."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


async def pause_after(size: int) -> None:
    """Lets other tasks run after a step with a text of `size` bytes, if the text is large."""
    if size > LARGE_BYTES:
        await pause()
