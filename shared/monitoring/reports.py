"""Stores the reports of workers. No decision about an item depends on a report."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.asyncio import Redis

from shared.monitoring.counters import KEPT_S, STEP_S, Counter, encode
from shared.queue.redis_keys import Keys
from shared.queue.scripts import load_script

# Number of counters that one run of the script adds. During a run, Redis serves no other client.
MAX_COUNTERS = 500


@dataclass(frozen=True, slots=True)
class Report:
    """Holds the state of a worker, as the worker reports it."""

    worker_id: str
    uptime_s: float
    running: Mapping[str, int]  # number of running calls, by lane
    limits: Mapping[str, int]  # limit of the calls on all workers together, by lane
    configured: Collection[str]  # the lanes whose calls the worker can make
    # further facts, by lane, such as the rates: see shared.queue.capacity.Rules.shown
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return orjson.dumps(
            {
                "uptime_s": self.uptime_s,
                "running": self.running,
                "limits": self.limits,
                "rules": self.rules,
            }
        )


class ReportWriter:
    """Stores reports in Redis. All methods raise RedisUnavailable."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._script = load_script(redis, keys, "store_report")

    async def write(self, report: Report, counts: Mapping[Counter, int]) -> None:
        """Stores a worker's report, and adds the counts since the last report to the history.

        If a report is repeated because Redis's reply was lost, its counts are added twice.
        """
        await self._run(counts, report)

    async def write_levels(self) -> None:
        """Records how many items are queued and running, so that the history has no gap while no
        worker reports."""
        await self._run({})

    async def remove(self, worker_id: str) -> None:
        """Removes a worker that shuts down normally, so that the overview does not show it as
        lost."""
        await self._redis.zrem(self._keys.worker_last_seen, worker_id)

    async def _run(self, counts: Mapping[Counter, int], report: Report | None = None) -> None:
        options = {
            "worker_id": report.worker_id if report else "",
            "configured": ",".join(report.configured) if report else "",
            "step_s": STEP_S,
            "kept_s": KEPT_S,
            "called": list({counter.lane for counter in counts}),
        }
        text = report.to_json() if report else b""
        encoded = [part for counter, count in counts.items() for part in (encode(counter), count)]
        for start in range(0, max(1, len(encoded)), 2 * MAX_COUNTERS):
            part = encoded[start : start + 2 * MAX_COUNTERS]
            await self._script(args=[orjson.dumps(options), text, *part])
