"""Reads sorted sets whose scores are times in ms, in pages."""

from typing import NamedTuple

from redis.asyncio import Redis

_TIES = 16  # expected number of ids that have the same time


class Place(NamedTuple):
    """Holds an id and its time. Ids with the same time are in alphabetical order."""

    ms: float
    member: str


class TimeIndex:
    """Reads a sorted set of ids by their times, from the oldest or from the newest id.

    A page begins after an id and its time, not at an offset, because new ids would shift offsets.
    """

    def __init__(self, redis: Redis, key: str, *, newest_first: bool) -> None:
        self._redis = redis
        self._key = key
        self.newest_first = newest_first

    async def place(self, member: str) -> Place | None:
        """Returns the place of an id, or None if the id is not in the set."""
        ms = await self._redis.zscore(self._key, member)
        return None if ms is None else Place(ms, member)

    async def read(self, after: Place | None, count: int) -> list[Place]:
        """Returns up to `count` ids after the place, or the first ids if `after` is None."""
        read = self._redis.zrevrangebyscore if self.newest_first else self._redis.zrangebyscore
        ends = ("+inf", "-inf") if self.newest_first else ("-inf", "+inf")
        first = after.ms if after else ends[0]
        found: list[Place] = []
        offset, limit = 0, count + _TIES
        while len(found) < count:
            page = await read(self._key, first, ends[1], start=offset, num=limit, withscores=True)
            places = [Place(ms, member.decode()) for member, ms in page]
            found += [place for place in places if after is None or self._follows(place, after)]
            offset += limit
            if len(page) < limit:
                break
        return found[:count]

    def _follows(self, place: Place, other: Place) -> bool:
        return place < other if self.newest_first else place > other
