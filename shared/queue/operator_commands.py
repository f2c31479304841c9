"""Sets limits and ends pauses while work runs, for the commands `limits` and `lanes`."""

from collections.abc import Mapping

import orjson
from redis.asyncio import Redis

from shared.queue.redis_keys import Keys
from shared.queue.scripts import load_script


class Operator:
    """Sets limits, and ends pauses of lanes. Raises RedisUnavailable.

    Anyone who can connect to Redis can do this. The HTTP API has no such routes.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._resume = load_script(redis, keys, "resume")
        self._set_limits = load_script(redis, keys, "set_limits")

    async def set_limits(
        self, name: str, limits: Mapping[str, int], for_s: float | None = None
    ) -> None:
        """Sets limits of a provider, or of a model as `provider/model`, for all workers.

        limits: by `concurrency`, `rpm`, `tpm` and `rpd`. Limits that are not named here stay as
            they were set before.
        for_s: time after which all limits that were set for the name end, also the earlier limits.
            None: they hold until `unset_limits`.
        """
        for_ms = "" if for_s is None else for_s * 1000
        await self._set_limits(args=[name, orjson.dumps(dict(limits)), for_ms])

    async def unset_limits(self, name: str) -> bool:
        """Removes the limits that were set for a name. Returns whether any were in force."""
        return bool(await self._set_limits(args=[name, "", ""]))

    async def resume(self, lane: str, model: str | None = None) -> list[str]:
        """Ends the pauses of a lane, or of one of its models, so that the next call is made now.

        Returns the deployments that were not healthy: accounts, and models as `account/model`.
        """
        only = [] if model is None else [model]
        position, found = b"1 0", dict[str, None]()
        while position:
            position, names = await self._resume(args=[lane, position, *only])
            found |= {name.decode(): None for name in names}
        return list(found)
