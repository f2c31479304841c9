"""Reads the overview of lanes and workers, and the history of the last hour."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any

import orjson
from redis.asyncio import Redis

from shared.monitoring.call_stats import CallStats
from shared.monitoring.counters import KEPT_S, STEP_S, LevelName
from shared.monitoring.models import (
    MAX_DEPLOYMENTS,
    Deployment,
    DeploymentState,
    History,
    HistoryPoint,
    Lane,
    LanePoint,
    LaneStats,
    ModelStats,
    Overview,
    WorkerState,
    WorkerView,
)
from shared.monitoring.notices import notices
from shared.monitoring.pools import with_pools
from shared.providers import WEBHOOK_LANE
from shared.providers.lanes import shown_lane
from shared.providers.provider_row import account
from shared.queue.redis_keys import Keys
from shared.queue.scripts import load_script

RECENT_STEPS = 6  # past steps in the "last minute", which also includes the current step
MAX_JOBS_SEARCHED = 1000  # limit per lane, for the search for the oldest item
MAX_LOST_WORKERS = 20
MAX_WORKERS = 1000
SILENT_S = 6  # time without a report from a silent worker; workers report every 2 s


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
        workers = _workers(reports, _alive(alive, float(now_ms)), now_s)
        minute, recent, recent_s = await self._last_minute(now_s)
        by_name = {shown_lane(fields[0].decode()): fields[1:] for fields in lane_fields}
        lanes = [
            _lane(
                name,
                by_name[name],
                now_s,
                workers,
                last_minute=minute.lanes[name].stats(recent.lanes[name], recent_s),
                recent_mean_ms=recent.lanes[name].mean_ms,
                models=minute.lanes[name].models(),
            )
            for name in _in_order(by_name, workers)
        ]
        workers = [_without_idle_limits(worker, by_name) for worker in workers]
        at = _time(now_s)
        rules = _rules(reports)
        lanes = with_pools(at, lanes, rules.values())
        found = notices(at, lanes, workers, rules)
        return Overview(at=at, lanes=lanes, workers=workers, notices=found)

    async def history(self) -> History:
        """Returns the last hour, without the steps in which nothing happened."""
        seconds, _ = await self._redis.time()
        current = seconds // STEP_S * STEP_S
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
        at=_time(start),
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


def _alive(reply: Sequence[bytes], now_ms: float) -> set[str]:
    """Returns the workers whose leases may still be valid.

    `reply` is a flat list: a worker's id, the time in ms after which it is lost, and so on.
    """
    return {
        worker_id.decode()
        for worker_id, lost_ms in zip(reply[::2], reply[1::2], strict=True)
        if float(lost_ms) > now_ms
    }


def _workers(reply: Sequence[bytes | None], alive: set[str], now_s: float) -> list[WorkerView]:
    """Returns the workers that have a report.

    `reply` is a flat list: a worker's id, its stored report or None if that has expired, and so on.
    """
    return [
        _worker(worker_id.decode(), stored, now_s, alive)
        for worker_id, stored in zip(reply[::2], reply[1::2], strict=True)
        if worker_id and stored
    ]


def _rules(reply: Sequence[bytes | None]) -> dict[str, dict[str, Any]]:
    """Returns the further limits of each worker, by lane. `reply`: see `_workers`."""
    return {
        worker_id.decode(): {
            shown_lane(lane): rules
            for lane, rules in orjson.loads(stored.split(b" ", 2)[2]).get("rules", {}).items()
        }
        for worker_id, stored in zip(reply[::2], reply[1::2], strict=True)
        if worker_id and stored
    }


def _worker(worker_id: str, stored: bytes, now_s: float, alive: set[str]) -> WorkerView:
    seen_ms, _, report = stored.split(b" ", 2)
    reported = orjson.loads(report)
    seen_s = float(seen_ms) / 1000
    if worker_id not in alive:
        state = WorkerState.LOST
    else:
        state = WorkerState.SILENT if now_s - seen_s > SILENT_S else WorkerState.ALIVE
    return WorkerView(
        worker_id=worker_id,
        state=state,
        started_at=_time(seen_s - reported["uptime_s"]),
        seen_at=_time(seen_s),
        running={shown_lane(lane): count for lane, count in reported["running"].items()},
        limits={shown_lane(lane): limit for lane, limit in reported["limits"].items()},
    )


def _in_order(lanes: Collection[str], workers: Sequence[WorkerView]) -> list[str]:
    """Returns the lanes in the order of the workers' settings, then those that no worker serves."""
    served = (lane for worker in workers for lane in worker.limits if lane in lanes)
    unserved = sorted(lanes, key=lambda lane: (lane == WEBHOOK_LANE, lane))
    return list(dict.fromkeys((*served, *unserved)))


def _without_idle_limits(worker: WorkerView, lanes: Collection[str]) -> WorkerView:
    """Returns the worker with its limits of `lanes` only, because it may serve many idle lanes."""
    limits = {lane: limit for lane, limit in worker.limits.items() if lane in lanes}
    return worker.model_copy(update={"limits": limits})


def _lane(
    name: str,
    fields: Sequence[Any],
    now_s: float,
    workers: Sequence[WorkerView],
    *,
    last_minute: LaneStats,
    recent_mean_ms: float | None,
    models: list[ModelStats],
) -> Lane:
    """Returns the lane. overview.lua returns its `fields`."""
    in_flight, queued, deferred, oldest_ms, scopes, set_limits, cap = fields
    deployments = sorted((_deployment(name, *scope) for scope in scopes), key=lambda d: d.name)
    paused = _paused(name, deployments, in_flight, now_s)
    return Lane(
        name=name,
        in_flight=in_flight,
        limit=limit_in_force(_limit(name, workers), set_limits, cap, now_s),
        queued=queued,
        deferred=deferred,
        oldest_waiting_s=round(now_s - float(oldest_ms) / 1000, 3) if oldest_ms else None,
        paused_until=paused.next_call_at if paused else None,
        paused_because=paused.because if paused else None,
        deployments=deployments,
        last_minute=last_minute,
        recent_mean_ms=recent_mean_ms,
        models=models,
    )


def _deployment(
    lane: str,
    scope: bytes,
    until_ms: bytes,
    since_ms: bytes,
    is_open: int,
    verdict: bytes,
    reason: bytes,
    is_probing: int,
    key: int,
) -> Deployment:
    """Returns a deployment that is not healthy. overview.lua returns the arguments."""
    route, of_key = scope.decode(), account(lane, key)
    return Deployment(
        name=f"{of_key}/{route}" if route else of_key,
        state=DeploymentState.PROBING if is_open else DeploymentState.PAUSED,
        since=_time(float(since_ms) / 1000),
        next_call_at=_time(float(until_ms) / 1000),
        is_probing=bool(is_probing),
        verdict=verdict.decode(),
        because=reason.decode(),
    )


def _paused(
    lane: str, deployments: Sequence[Deployment], in_flight: int, now_s: float
) -> Deployment | None:
    """Returns the deployment whose pause keeps the whole lane from making calls, if any."""
    paused = [deployment for deployment in deployments if deployment.next_call_at > _time(now_s)]
    whole = [deployment for deployment in paused if deployment.name == lane]
    if whole or (paused and not in_flight):
        return min(whole or paused, key=lambda deployment: deployment.next_call_at)
    return None


def _limit(lane: str, workers: Sequence[WorkerView]) -> int | None:
    """Returns the highest limit that a worker has reported.

    Ignores the limits of lost workers, unless all workers are lost.
    """
    present = [worker for worker in workers if worker.state is not WorkerState.LOST]
    limits = (worker.limits[lane] for worker in present or workers if lane in worker.limits)
    return max(limits, default=None)


def limit_in_force(
    configured: int | None, set_limits: bytes | None, cap: bytes | None, now_s: float
) -> int | None:
    """Returns the limit of running calls that is in force: see lua/lib/limits_in_force.lua.

    set_limits: what LIMITS has for the provider. cap: what CAPS has for the provider.
    """
    if configured is None:
        return None
    found = orjson.loads(set_limits) if set_limits else {}
    limit: int = configured
    if found.get("until_ms", inf) > now_s * 1000:
        limit = found.get("concurrency", configured)
    adapted = orjson.loads(cap).get("cap") if cap else None
    return limit if adapted is None else min(limit, max(1, int(adapted)))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
