"""The version of the data in Redis, and the check that refuses to mix two of them.

Until 0.2.0 a change of the layout raises LAYOUT_VERSION, and processes refuse any other one:
reading it with the wrong names would lose jobs without a line in the log.
"""

import re

from redis.asyncio import Redis

from shared.queue.keys import LAYOUT_VERSION, Keys

UNVERSIONED = "1 or older"  # written before the layout had a version


class LayoutMismatch(Exception):
    """Redis holds data in another layout. The text names both and says what to do."""

    def __init__(self, found: str, prefix: str) -> None:
        super().__init__(
            f"Redis holds data in layout {found} under the prefix {prefix!r}, but this version"
            f" reads and writes layout {LAYOUT_VERSION}. Nothing was changed. Either finish those"
            " jobs with the version that accepted them, stop it and delete its keys; or set"
            " KEY_PREFIX to another prefix and start this version beside it."
        )
        self.found = found


async def check_layout(redis: Redis, keys: Keys) -> None:
    """Claims the prefix for this layout, or raises LayoutMismatch. Raises RedisUnavailable."""
    stored = await redis.get(keys.layout_version)
    if stored is None and await _is_in_use(redis, keys):
        # A process that started at the same time may have written the version meanwhile.
        stored = await redis.get(keys.layout_version) or UNVERSIONED.encode()
    if stored is None:
        await redis.set(keys.layout_version, LAYOUT_VERSION, nx=True)
        stored = await redis.get(keys.layout_version) or b""
    if stored.decode() != str(LAYOUT_VERSION):
        raise LayoutMismatch(stored.decode(), keys.prefix)


async def _is_in_use(redis: Redis, keys: Keys) -> bool:
    """Looks at all keys of Redis, at most once in the life of a deployment."""
    pattern = re.sub(r"([\\*?\[\]])", r"\\\1", keys.prefix) + "*"
    async for _ in redis.scan_iter(match=pattern, count=1000):
        return True
    return False
