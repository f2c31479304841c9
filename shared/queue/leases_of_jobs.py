"""Finds the jobs that have leases: their calls run, or are being stopped."""

from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet

from redis.asyncio import Redis

from shared.queue.ids import LeaseId
from shared.queue.redis_keys import Keys

_READ_LEASES = 1000  # limit of leases per round trip, because a lane can have thousands


async def jobs_with_leases(
    redis: Redis, keys: Keys, jobs_by_lane: Mapping[str, AbstractSet[str]], now_ms: float
) -> set[str]:
    """Returns the ids of the jobs in `jobs_by_lane` that have an unexpired lease in their lane.

    Reads the leases of each lane once, in parts. now_ms: the time of the Redis server.
    """
    found: set[str] = set()
    for lane, job_ids in jobs_by_lane.items():
        async for lease in _leases(redis, keys.leases(lane), now_ms):
            if lease.job_id in job_ids:
                found.add(lease.job_id)
                if job_ids <= found:
                    break
    return found


async def _leases(redis: Redis, key: str, now_ms: float) -> AsyncIterator[LeaseId]:
    start = 0
    while leases := await redis.zrangebyscore(key, now_ms, "+inf", start=start, num=_READ_LEASES):
        for lease in leases:
            yield LeaseId(lease.decode())
        start += len(leases)
