"""Finds positions in sorted sets whose scores are times in ms."""

from redis.asyncio import Redis


class TimeIndex:
    """A sorted set of ids by their times. Positions count from the oldest or the newest id."""

    def __init__(self, redis: Redis, key: str, *, newest_first: bool) -> None:
        self._redis = redis
        self._key = key
        self._newest_first = newest_first

    async def position(self, member: str) -> int | None:
        """Returns the position of an id, or None if the id is not in the set."""
        rank_of = self._redis.zrevrank if self._newest_first else self._redis.zrank
        rank: int | None = await rank_of(self._key, member)
        return rank

    async def count_before(self, ms: float, *, including: bool) -> int:
        """Returns the number of ids before a time, or up to the time if `including`."""
        end = f"{'' if including else '('}{ms!r}"
        ends = (end, "+inf") if self._newest_first else ("-inf", end)
        count: int = await self._redis.zcount(self._key, *ends)
        return count

    async def read(self, position: int, count: int) -> list[str]:
        """Returns up to `count` ids from this position on."""
        last = position + count - 1
        found = await self._redis.zrange(self._key, position, last, desc=self._newest_first)
        return [member.decode() for member in found]
