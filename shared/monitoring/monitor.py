"""Reads the overview of lanes and workers, and the history of the last hour."""

from collections.abc import Iterable

from redis.asyncio import Redis

from shared.monitoring.call_stats import CallStats
from shared.monitoring.counters import KEPT_S, STEP_S, LevelName
from shared.monitoring.deployment_pools import with_pools
from shared.monitoring.lane_overview import lane_of, lane_order
from shared.monitoring.models import MAX_DEPLOYMENTS, History, HistoryPoint, LanePoint, Overview
from shared.monitoring.notices import notices
from shared.monitoring.worker_reports import (
    rules_of,
    without_idle_limits,
    workers_alive,
    workers_of,
)
from shared.providers.lanes import shown_lane
from shared.queue.redis_keys import Keys
from shared.queue.scripts import load_script
from shared.redis.clock import read_time_s, utc

RECENT_STEPS = 6  # past steps in the "last minute", which also includes the current step
MAX_JOBS_SEARCHED = 1000  # limit per lane, for the search for the oldest item
MAX_LOST_WORKERS = 20
MAX_WORKERS = 1000


class Monitor:
    """Reads the overview and the history. All methods raise RedisUnavailable."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._overview = load_script(redis, keys, "overview")

    async def overview(self) -> Overview:
        limits = (MAX_JOBS_SEARCHED, MAX_LOST_WORKERS, MAX_DEPLOYMENTS, MAX_WORKERS)
        now_ms, alive, reports, left, *lane_fields = await self._overview(args=limits)
        while left:
            _, _, _, left, *more = await self._overview(args=[*limits, *left])
            lane_fields += more
        now_s = float(now_ms) / 1000
        workers = workers_of(reports, workers_alive(alive, float(now_ms)), now_s)
        minute, recent, recent_s = await self._last_minute(now_s)
        by_name = {shown_lane(fields[0].decode()): fields[1:] for fields in lane_fields}
        lanes = [
            lane_of(
                name,
                by_name[name],
                now_s,
                workers,
                last_minute=minute.lanes[name].stats(recent.lanes[name], recent_s),
                recent_mean_ms=recent.lanes[name].mean_ms,
                models=minute.lanes[name].models(),
            )
            for name in lane_order(by_name, workers)
        ]
        workers = [without_idle_limits(worker, by_name) for worker in workers]
        at = utc(now_s)
        rules = rules_of(reports)
        lanes = with_pools(at, lanes, rules.values())
        found = notices(at, lanes, workers, rules)
        return Overview(at=at, lanes=lanes, workers=workers, notices=found)

    async def history(self) -> History:
        """Returns the history of the last hour, without the steps in which nothing happened."""
        current = int(await read_time_s(self._redis)) // STEP_S * STEP_S
        starts = range(current - KEPT_S + STEP_S, current + STEP_S, STEP_S)
        return History(
            step_s=STEP_S,
            points=[
                _history_point(start, step)
                for start, step in zip(starts, await self._steps(starts), strict=True)
                if step
            ],
        )

    async def _last_minute(self, now_s: float) -> tuple[CallStats, CallStats, float]:
        """Returns the sums of the last minute, and the sums of the current and the previous step,
        with the time that these two steps cover: 10 to 20 s."""
        current = int(now_s) // STEP_S * STEP_S
        starts = [current - step * STEP_S for step in range(RECENT_STEPS, -1, -1)]
        minute, recent = CallStats(), CallStats()
        for start, step in zip(starts, await self._steps(starts), strict=True):
            minute.add(step)
            if start >= current - STEP_S:
                recent.add(step)
        return minute, recent, now_s - current + STEP_S

    async def _steps(self, starts: Iterable[int]) -> list[dict[bytes, bytes]]:
        pipe = self._redis.pipeline(transaction=False)
        for start in starts:
            pipe.hgetall(self._keys.history(start))
        steps: list[dict[bytes, bytes]] = await pipe.execute()
        return steps


def _history_point(start: int, step: dict[bytes, bytes]) -> HistoryPoint:
    stats = CallStats()
    stats.add(step)
    return HistoryPoint(
        at=utc(start),
        lanes={
            name: LanePoint(
                in_flight=lane.levels.get(LevelName.IN_FLIGHT),
                queued=lane.levels.get(LevelName.QUEUED),
                **dict(lane.stats(lane, STEP_S)),
            )
            for name, lane in stats.lanes.items()
            if not lane.is_empty
        },
    )
