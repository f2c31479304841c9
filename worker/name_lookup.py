"""Looks up the names of webhooks' hosts, which users choose, so that a silent name server delays
nothing else."""

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

from shared.owner_shares import OwnerShares

TIMEOUT_S = 5.0
MAX_LOOKUPS = 64  # limit of this process's threads, even of threads for which no delivery waits

_shares = OwnerShares(MAX_LOOKUPS)


class TooManyLookups(Exception):
    """Lookups of the owner's names have used up the owner's share of the threads."""


async def look_up(owner: str, host: str, port: int, family: socket.AddressFamily) -> list[Any]:
    """Returns the entries of `socket.getaddrinfo` for streams.

    Raises OSError, TimeoutError after `TIMEOUT_S`, and TooManyLookups.

    A thread cannot be stopped while `getaddrinfo` waits for a name server, often for 10 to 40 s. So
    each lookup has a thread of its own. The thread takes a place until it ends, but the process
    does not wait for the thread when it stops. uvloop has four threads for the lookups of the whole
    process, and Python waits for the threads of an executor.
    """
    if not _shares.take(owner):
        raise TooManyLookups
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Any]] = loop.create_future()

    def end(addresses: list[Any], error: Exception | None) -> None:
        _shares.give_back(owner)
        if found.done():
            return
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    def run() -> None:
        addresses: list[Any] = []
        error: Exception | None = None
        try:
            addresses = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as raised:  # a name with an empty part raises UnicodeError
            error = raised
        with suppress(RuntimeError):  # the event loop has been closed
            loop.call_soon_threadsafe(end, addresses, error)

    threading.Thread(target=run, name="webhook-name", daemon=True).start()
    async with asyncio.timeout(TIMEOUT_S):
        return await found
