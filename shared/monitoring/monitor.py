"""What there is to see of a deployment: workers report it, anybody reads it. It decides nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from redis.asyncio import Redis

from shared.monitoring.histogram import quantile_ms
from shared.monitoring.models import (
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
from shared.providers import PROVIDERS, WEBHOOK_LANE
from shared.queue.keys import Keys
from shared.queue.scripts import script

LANES = (*PROVIDERS, WEBHOOK_LANE)
STEP_S = 10  # of the history
KEPT_S = 3600
RECENT_STEPS = 6  # before the one that has begun
MOST_JOBS = 1000  # looked at in a lane for the oldest item
MOST_LOST = 20  # workers
SILENT_S = 6  # they report every two
MODELS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Report:
    """A worker, of itself."""

    worker_id: str
    uptime_s: float
    running: Mapping[str, int]  # by lane
    limits: Mapping[str, int]

    def to_json(self) -> bytes:
        return orjson.dumps(
            {"uptime_s": self.uptime_s, "running": self.running, "limits": self.limits}
        )


class Monitor:
    """Raises `redis.exceptions.RedisError` where Redis is away."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._report, self._overview = (
            script(redis, keys, name) for name in ("report", "overview")
        )

    async def report(
        self, report: Report | None = None, counts: Mapping[str, int] | None = None
    ) -> None:
        """None: not of a worker, just how much runs and waits now. Repeated after a lost reply,
        counts are counted twice; they are by "<lane> calls <error code or -> <model>",
        "<lane> bin <of the histogram>", "<lane> latency_ms", "<lane> prompt_tokens", …"""
        counted = (part for count in (counts or {}).items() for part in count)
        who = (report.worker_id, report.to_json()) if report else ("", "")
        await self._report(args=[*who, STEP_S, KEPT_S, len(LANES), *LANES, *counted])

    async def leave(self, worker_id: str) -> None:
        """It ends in order."""
        await self._redis.zrem(self._keys.seen, worker_id)

    async def overview(self) -> Overview:
        now_ms, alive, reports, *lanes = await self._overview(args=[MOST_JOBS, MOST_LOST, *LANES])
        now_s = float(now_ms) / 1000
        begun_s = int(now_s) // STEP_S * STEP_S
        starts = [begun_s - step * STEP_S for step in range(RECENT_STEPS, -1, -1)]
        recent, latest = _Counted(), _Counted()
        for start, bucket in zip(starts, await self._buckets(starts), strict=True):
            recent.add(bucket)
            if start > begun_s - 2 * STEP_S:
                latest.add(bucket)
        alive_ids = _alive(alive, float(now_ms))
        workers = [
            _worker(worker_id.decode(), stored, now_s, alive_ids)
            for worker_id, stored in zip(reports[::2], reports[1::2], strict=True)
            if stored
        ]
        views = [
            _lane(
                name,
                fields,
                now_s,
                workers,
                recent,
                latest.calls(name) / (now_s - begun_s + STEP_S),
            )
            for name, fields in zip(LANES, lanes, strict=True)
        ]
        at = _time(now_s)
        return Overview(at=at, lanes=views, workers=workers, notices=notices(at, views, workers))

    async def history(self) -> History:
        """The last hour."""
        seconds, _ = await self._redis.time()
        begun_s = seconds // STEP_S * STEP_S
        starts = range(begun_s - KEPT_S + STEP_S, begun_s + STEP_S, STEP_S)
        points = []
        for start, bucket in zip(starts, await self._buckets(starts), strict=True):
            if bucket:
                counted = _Counted()
                counted.add(bucket)
                points.append(HistoryPoint(at=_time(start), lanes=counted.points()))
        return History(step_s=STEP_S, points=points)

    async def _buckets(self, starts: Iterable[int]) -> list[dict[bytes, bytes]]:
        pipe = self._redis.pipeline(transaction=False)
        for start in starts:
            pipe.hgetall(self._keys.history(start))
        buckets: list[dict[bytes, bytes]] = await pipe.execute()
        return buckets


@dataclass(slots=True)
class _CountedLane:
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)  # by error code and model
    bins: Counter[int] = field(default_factory=Counter)
    others: dict[str, int] = field(default_factory=dict)

    def stats(self, calls_per_s: float) -> dict[str, Any]:
        calls = self.calls.total()
        return {
            "calls": calls,
            "calls_per_s": round(calls_per_s, 3),
            "mean_ms": round(self.others.get("latency_ms", 0) / calls, 1) if calls else None,
            "errors": _errors(self.calls),
            "prompt_tokens": self.others.get("prompt_tokens", 0),
            "completion_tokens": self.others.get("completion_tokens", 0),
            **{f"p{p}_ms": quantile_ms(self.bins, p / 100) for p in (50, 95, 99)},
        }

    def models(self) -> list[ModelStats]:
        by_model: dict[str, Counter[tuple[str, str]]] = {}
        for (code, model), count in self.calls.items():
            by_model.setdefault(model, Counter())[code, model] = count
        busiest = sorted(by_model.items(), key=lambda entry: -entry[1].total())
        return [
            ModelStats(model=model, calls=calls.total(), errors=_errors(calls))
            for model, calls in busiest[:MODELS_SHOWN]
        ]


class _Counted:
    """What the fields of buckets say."""

    def __init__(self) -> None:
        self.lanes: dict[str, _CountedLane] = {}

    def add(self, bucket: Mapping[bytes, bytes]) -> None:
        for name, value in bucket.items():
            lane_name, kind, *rest = name.decode().split(" ", 3)
            lane = self.lanes.setdefault(lane_name, _CountedLane())
            number = int(value)
            match kind, rest:
                case "calls", [code, model]:
                    lane.calls[code, model] += number
                case "bin", [bin_]:
                    lane.bins[int(bin_)] += number
                case (("in_flight" | "queued"), _):
                    lane.others[kind] = number
                case _:
                    lane.others[kind] = lane.others.get(kind, 0) + number

    def calls(self, lane: str) -> int:
        return self.lanes[lane].calls.total() if lane in self.lanes else 0

    def points(self) -> dict[str, LanePoint]:
        return {
            name: LanePoint(
                in_flight=lane.others.get("in_flight"),
                queued=lane.others.get("queued"),
                **lane.stats(lane.calls.total() / STEP_S),
            )
            for name, lane in self.lanes.items()
            if lane.calls or any(lane.others.values())
        }


def _errors(calls: Mapping[tuple[str, str], int]) -> dict[str, int]:
    errors = Counter[str]()
    for (code, _), count in calls.items():
        if code != "-":
            errors[code] += count
    return dict(errors.most_common())


def _alive(reply: Sequence[bytes], now_ms: float) -> set[str]:
    return {
        worker_id.decode()
        for worker_id, dead_ms in zip(reply[::2], reply[1::2], strict=True)
        if float(dead_ms) > now_ms
    }


def _worker(worker_id: str, stored: bytes, now_s: float, alive: set[str]) -> WorkerView:
    seen_ms, _, report = stored.partition(b" ")
    said = orjson.loads(report)
    seen_s = float(seen_ms) / 1000
    if worker_id not in alive:
        state = WorkerState.LOST
    else:
        state = WorkerState.SILENT if now_s - seen_s > SILENT_S else WorkerState.ALIVE
    return WorkerView(
        worker_id=worker_id,
        state=state,
        started_at=_time(seen_s - said["uptime_s"]),
        seen_at=_time(seen_s),
        running=said["running"],
        limits=said["limits"],
    )


def _lane(
    name: str,
    fields: Sequence[Any],
    now_s: float,
    workers: Sequence[WorkerView],
    recent: _Counted,
    calls_per_s: float,
) -> Lane:
    in_flight, queued, deferred, oldest_ms, paused = fields
    counted = recent.lanes.get(name, _CountedLane())
    there = [worker for worker in workers if worker.state is not WorkerState.LOST]
    until_ms, _, because = (paused or b"").decode().partition(" ")
    return Lane(
        name=name,
        in_flight=in_flight,
        limit=max((w.limits[name] for w in there or workers if name in w.limits), default=None),
        queued=queued,
        deferred=deferred,
        oldest_waiting_s=round(now_s - float(oldest_ms) / 1000, 3) if oldest_ms else None,
        paused_until=_time(float(until_ms) / 1000) if until_ms else None,
        paused_because=because or None,
        last_minute=LaneStats(**counted.stats(calls_per_s)),
        models=counted.models(),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
