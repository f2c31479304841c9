"""Looks up the host names of webhooks, without delaying anything else.

Users choose these names, so a name server may never answer.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

from shared.owner_shares import OwnerShares

TIMEOUT_S = 5.0
MAX_LOOKUPS = 64  # limit of lookup threads, including threads whose delivery has timed out

_shares = OwnerShares(MAX_LOOKUPS)


class TooManyLookups(Exception):
    """Running lookups for the same owner use the owner's whole share of the threads."""


async def look_up(owner: str, host: str, port: int, family: socket.AddressFamily) -> list[Any]:
    """Returns the entries of `socket.getaddrinfo` for streams.

    Raises TimeoutError after `TIMEOUT_S`, TooManyLookups, OSError, and UnicodeError if a part of
    the name is empty or too long.

    `getaddrinfo` often waits for a name server for 10 to 40 s, and its thread cannot be stopped
    meanwhile. So each lookup has its own daemon thread, which counts as a part of the owner's share
    until it ends. When the process stops, it does not wait for these threads. uvloop's lookups
    would share four threads with the rest of the process, and Python waits for the threads of an
    executor.
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
