"""The version of the data in Redis, checked by every new connection.

Until 0.2.0 a change of keys, fields or their meaning raises LAYOUT_VERSION, and a process refuses
any other layout: read with the wrong names, accepted jobs would be lost without a line in the log.
"""

import asyncio
import re
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from shared.queue.keys import LAYOUT_VERSION, Keys
from shared.redis.client import ConnectionCheck, RedisUnavailable

UNVERSIONED = "1 or older"  # written before the layout had a version
RETRY_S = 0.5

# Keys of unversioned layouts that have other names now.
_UNVERSIONED_NAMES = {
    *("item", "tries", "ended", "shares", "paused", "deadlines"),
    *("owned", "expiring", "idempotent", "seen", "report"),
}

log = structlog.get_logger()


class LayoutMismatch(RedisUnavailable):
    """Redis holds data in another layout. The text names both and says what to do."""

    def __init__(self, found: str, prefix: str) -> None:
        super().__init__(
            f"Redis holds data in layout {found} under the prefix {prefix!r}, but this version"
            f" reads and writes layout {LAYOUT_VERSION}. Nothing was changed. Either finish those"
            " jobs with the version that accepted them, stop it and delete its keys; or set"
            " KEY_PREFIX to another prefix and start this version beside it."
        )
        self.found = found


def layout_check(keys: Keys) -> ConnectionCheck:
    """Returns a check for `connect`: it raises LayoutMismatch unless the layout is this version's.

    A prefix without any key passes; the scripts that write first also write the version.
    """

    async def check(connection: AbstractConnection) -> None:
        await connection.on_connect()
        found = await _call(connection, "GET", keys.layout_version)
        if found is None and await _is_in_use(connection, keys):
            # Unless a process that started at the same time has written the version meanwhile.
            found = await _call(connection, "GET", keys.layout_version) or UNVERSIONED.encode()
        if found is not None and found != b"%d" % LAYOUT_VERSION:
            raise LayoutMismatch(found.decode(), keys.prefix)

    return check


async def claim_layout(redis: Redis, keys: Keys) -> None:
    """Writes the version if the prefix has none, so that other versions refuse to start.

    Raises LayoutMismatch, RedisUnavailable.
    """
    found = await redis.get(keys.layout_version)
    if (
        found is None
    ):  # only then: a full or read-only Redis takes no writes, but its work can continue
        await redis.set(keys.layout_version, LAYOUT_VERSION, nx=True)
        found = await redis.get(keys.layout_version)
    if found != b"%d" % LAYOUT_VERSION:
        raise LayoutMismatch((found or b"unknown").decode(), keys.prefix)


async def wait_for_layout(redis: Redis, keys: Keys) -> None:
    """Claims the layout as soon as Redis is available. Raises LayoutMismatch."""
    logged = False
    while True:
        try:
            return await claim_layout(redis, keys)
        except LayoutMismatch:
            raise
        except RedisUnavailable as error:
            if not logged:
                log.warning("redis_unavailable", reason=str(error), retry_in_s=RETRY_S)
            logged = True
            await asyncio.sleep(RETRY_S)


async def _is_in_use(connection: AbstractConnection, keys: Keys) -> bool:
    """Looks at all keys of Redis, but only until the version is written.

    A deployment may have a prefix that begins with this one, so only names count that stand
    directly behind this prefix.
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
