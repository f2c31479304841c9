"""Checks the layout version of the data in Redis, on every new connection.

Until 0.2.0, LAYOUT_VERSION increases with every change of keys, of fields or of their meaning. A
process refuses any other layout: it would look for the wrong names, and accepted jobs would be lost
without a log line.
"""

import asyncio
import re
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from shared.queue.redis_keys import LAYOUT_VERSION, Keys
from shared.redis.client import ConnectionCheck, RedisUnavailable

UNVERSIONED = "1 or older"  # the layouts before the first stored version
RETRY_S = 0.5  # longer than RETRY_INTERVAL_S, because no client waits for the start of a worker

# Names of keys in unversioned layouts that have other names in this version.
_UNVERSIONED_NAMES = {
    *("item", "tries", "ended", "shares", "paused", "deadlines"),
    *("owned", "expiring", "idempotent", "seen", "report"),
}


class LayoutMismatch(RedisUnavailable):
    """Redis holds data in another layout. str(error) names both layouts and the remedies."""

    def __init__(self, found: str, prefix: str) -> None:
        super().__init__(
            f"Redis holds data in layout {found} under the prefix {prefix!r}, but this version"
            f" reads and writes layout {LAYOUT_VERSION}. Nothing was changed. Either complete the"
            " accepted jobs with the version that accepted them, stop that version and delete its"
            " keys; or set KEY_PREFIX to another prefix and run both versions."
        )
        self.found = found


def layout_check(keys: Keys) -> ConnectionCheck:
    """Returns a check for `connect`.

    The check raises LayoutMismatch if Redis holds another layout under the prefix. A prefix without
    keys passes the check: the script that writes the first key also writes the version.
    """

    async def check(connection: AbstractConnection) -> None:
        await connection.on_connect()
        found = await _call(connection, "GET", keys.layout_version)
        if found is None and await _is_in_use(connection, keys):
            # A process that started at the same time may have written the version in between.
            found = await _call(connection, "GET", keys.layout_version) or UNVERSIONED.encode()
        if found is not None and found != b"%d" % LAYOUT_VERSION:
            raise LayoutMismatch(found.decode(), keys.prefix)

    return check


async def claim_layout(redis: Redis, keys: Keys) -> None:
    """Writes the layout version if none is stored, so that other versions refuse to start.

    Raises LayoutMismatch, RedisUnavailable.
    """
    found = await redis.get(keys.layout_version)
    if found is None:
        # A stored version is not written again: a full or read-only Redis refuses writes, but
        # accepted work can continue.
        await redis.set(keys.layout_version, LAYOUT_VERSION, nx=True)
        found = await redis.get(keys.layout_version)
    if found != b"%d" % LAYOUT_VERSION:
        raise LayoutMismatch((found or b"unknown").decode(), keys.prefix)


async def wait_for_layout(redis: Redis, keys: Keys) -> None:
    """Calls `claim_layout`, again and again while Redis is unavailable. Raises LayoutMismatch."""
    while True:
        try:
            return await claim_layout(redis, keys)
        except LayoutMismatch:
            raise
        except RedisUnavailable:
            await asyncio.sleep(RETRY_S)


async def _is_in_use(connection: AbstractConnection, keys: Keys) -> bool:
    """Returns whether Redis has a key of this installation.

    The search reads all key names in Redis, but is needed only before the version is stored.
    Another installation's prefix may begin with this prefix, so a key is found only if a name of
    `Keys` follows this prefix directly.
    """
    pattern = re.sub(r"([\\*?\[\]])", r"\\\1", keys.prefix) + "*"
    cursor = b"0"
    while True:
        cursor, found = await _call(connection, "SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        names = {key.decode().removeprefix(keys.prefix).partition(":")[0] for key in found}
        if names & (_UNVERSIONED_NAMES | Keys.names()):
            return True
        if cursor == b"0":
            return False


async def _call(connection: AbstractConnection, *command: object) -> Any:  # noqa: ANN401
    await connection.send_command(*command)
    return await connection.read_response()
