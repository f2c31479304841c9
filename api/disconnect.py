"""Stops work when its client has disconnected."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Receive

from api.errors.exception_types import ClientDisconnected

# The event loop reads a request and the end of its connection in different iterations. The second
# iteration wakes the coroutine that waits for the end.
_ITERATIONS = 3


async def wait_for_disconnect(receive: Receive) -> None:
    """Returns when the client has disconnected.

    Must be called after the request's body was read, because unread parts would be discarded.
    """
    while (await receive())["type"] != "http.disconnect":
        pass


async def require_client(disconnect: Callable[[], Awaitable[None]]) -> None:
    """Raises ClientDisconnected if the client has already disconnected.

    A client that gets no response repeats its request after a time-out, perhaps at another process.
    If this process was frozen or overloaded meanwhile, it must not run the first request as well.

    disconnect: returns an awaitable that completes when the client has disconnected.
    """
    disconnected = asyncio.ensure_future(disconnect())
    for _ in range(_ITERATIONS):
        await asyncio.sleep(0)
    if disconnected.done():
        raise ClientDisconnected
    disconnected.cancel()


async def cancel_on_disconnect(disconnect: Awaitable[None], work: Awaitable[None]) -> None:
    """Awaits `work`, but cancels it as soon as `disconnect` returns.

    `work` runs in the current task, so that only `disconnect` needs a task of its own. This saves
    memory, because a stream may last for hours. Raises ClientDisconnected if `disconnect` returns
    first, and every exception of `work`.
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
        finished = True  # the event loop may have scheduled `stop` already
        disconnected.cancel()
