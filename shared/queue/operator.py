"""Does what a person decides while work runs, for the `orchestrator` command."""

from redis.asyncio import Redis

from shared.queue.keys import Keys
from shared.queue.scripts import load_script

ACCOUNT = ""  # the scope of all models of a lane: see lua/lib/health.lua


class Operator:
    """Changes the state of lanes. Raises RedisUnavailable.

    Whoever can connect to Redis is the operator. The HTTP API has no such functions.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._resume = load_script(redis, keys, "resume")

    async def resume(self, lane: str, model: str | None = None) -> list[str]:
        """Ends the pauses of a lane, or of one of its models, so that the next call is made now.

        Returns the models that were not healthy. ACCOUNT stands for all models of the lane.
        """
        scopes = await self._resume(args=[lane] if model is None else [lane, model])
        return [scope.decode() for scope in scopes]
