"""Passes the parts of a streamed answer from the worker that calls the provider to the API.

The parts stay in Redis while the call runs, so that a client that joins the call gets all parts.
Each part is the text of one or more complete server-sent events.
"""

from dataclasses import dataclass

from redis.asyncio import Redis

from shared.queue.ids import LeaseId
from shared.queue.redis_keys import Keys
from shared.queue.scripts import load_script

RUNNING_TTL_S = 3600  # time after the last part; the provider may pause while it reasons
FINISHED_TTL_S = 60  # for clients that still read, or join a call that has just been answered


@dataclass(frozen=True, slots=True)
class Parts:
    """Holds the next parts of an answer.

    are_lost: whether parts after these expired before the client read them.
    has_ended: whether the job has ended. Then no part follows.
    """

    parts: list[bytes]
    are_lost: bool
    has_ended: bool


class Deltas:
    """Appends and reads the parts of the live calls of all owners. Raises RedisUnavailable."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._append = load_script(redis, keys, "append_deltas")

    async def append(
        self, lane: str, lease_id: LeaseId, part: bytes, *, position: int, is_last: bool = False
    ) -> bool:
        """Appends a part, after `position` other parts. Repeating a call appends nothing.

        From the first part on, the item does not run again: if its lease ends without a result,
        the item fails. Returns False, and appends nothing, if the lease or the job has ended.

        part: b"" only sets the time to live. is_last: the parts expire after FINISHED_TTL_S.
        """
        ttl_s = FINISHED_TTL_S if is_last else RUNNING_TTL_S
        return bool(await self._append(args=[lane, lease_id, position, ttl_s, part]))

    async def read(self, job_id: str, position: int) -> Parts:
        """Returns the parts after the first `position` parts."""
        pipe = self._redis.pipeline()  # a transaction, so that no part follows the end
        pipe.hmget(self._keys.job(job_id), ["finished_ms", "deltas"])
        pipe.lrange(self._keys.deltas(job_id), position, -1)
        (finished_ms, count), parts = await pipe.execute()
        return Parts(parts, position + len(parts) < int(count or 0), finished_ms is not None)
