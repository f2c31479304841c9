"""Stops work when its client has disconnected."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Receive

from api.errors.exception_types import ClientDisconnected

# The event loop reads a request and the end of its connection in different iterations. The second
# iteration wakes the coroutine that waits for the end.
_ITERATIONS = 3


async def wait_for_disconnect(receive: Receive) -> None:
    """Returns when the client has disconnected. Call it after the request's body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def require_client(disconnect: Callable[[], Awaitable[None]]) -> None:
    """Raises ClientDisconnected if the client has already disconnected.

    After a time-out, clients repeat a request at another process. If this process was frozen, or
    had too much to do, it must not do the work of the first request, too.

    disconnect: returns a coroutine that ends when the client has disconnected.
    """
    disconnected = asyncio.ensure_future(disconnect())
    for _ in range(_ITERATIONS):
        await asyncio.sleep(0)
    if disconnected.done():
        raise ClientDisconnected
    disconnected.cancel()


async def cancel_on_disconnect(disconnect: Awaitable[None], work: Awaitable[None]) -> None:
    """Awaits `work`, but cancels it as soon as `disconnect` returns.

    The work runs in the current task, so that a stream, which may last for hours, needs no second
    task. Raises ClientDisconnected if `disconnect` returns first, and every exception of `work`.
    """
    working = asyncio.current_task()
    assert working is not None  # noqa: S101 — this is a coroutine
    disconnected = asyncio.ensure_future(disconnect)
    finished = False

    def stop(_: asyncio.Future[None]) -> None:
        if not (finished or disconnected.cancelled()):
            working.cancel()

    disconnected.add_done_callback(stop)
    try:
        await work
    except asyncio.CancelledError:
        if disconnected.done() and working.uncancel() == 0:
            raise ClientDisconnected from None
        raise
    finally:
        finished = True  # `stop` may be scheduled already
        disconnected.cancel()
