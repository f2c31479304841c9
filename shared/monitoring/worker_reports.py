"""Reads the workers, their states and their limits from the reports of the workers."""

from collections.abc import Collection, Sequence
from typing import Any

import orjson

from shared.monitoring.models import WorkerState, WorkerView
from shared.providers.lanes import shown_lane
from shared.redis.clock import utc

SILENT_S = 6  # seconds without a report, after which a worker is silent; workers report every 2 s


def workers_alive(reply: Sequence[bytes], now_ms: float) -> set[str]:
    """Returns the workers whose leases may still be valid.

    `reply` is a flat list: a worker's id, the time in ms after which it is lost, and so on.
    """
    return {
        worker_id.decode()
        for worker_id, lost_ms in zip(reply[::2], reply[1::2], strict=True)
        if float(lost_ms) > now_ms
    }


def workers_of(reply: Sequence[bytes | None], alive: set[str], now_s: float) -> list[WorkerView]:
    """Returns the workers that have a report.

    `reply` is a flat list: a worker's id, its stored report (None if it has expired), and so on.
    """
    return [
        _worker(worker_id.decode(), stored, now_s, alive)
        for worker_id, stored in zip(reply[::2], reply[1::2], strict=True)
        if worker_id and stored
    ]


def rules_of(reply: Sequence[bytes | None]) -> dict[str, dict[str, Any]]:
    """Returns what each worker reports in addition to its limits, by its id and by lane.

    `reply`: see `workers_of`.
    """
    return {
        worker_id.decode(): {
            shown_lane(lane): rules
            for lane, rules in orjson.loads(stored.split(b" ", 2)[2]).get("rules", {}).items()
        }
        for worker_id, stored in zip(reply[::2], reply[1::2], strict=True)
        if worker_id and stored
    }


def without_idle_limits(worker: WorkerView, lanes: Collection[str]) -> WorkerView:
    """Returns the worker with only the limits of `lanes`.

    A worker may serve many lanes that the overview does not show.
    """
    limits = {lane: limit for lane, limit in worker.limits.items() if lane in lanes}
    return worker.model_copy(update={"limits": limits})


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
        started_at=utc(seen_s - reported["uptime_s"]),
        seen_at=utc(seen_s),
        running={shown_lane(lane): count for lane, count in reported["running"].items()},
        limits={shown_lane(lane): limit for lane, limit in reported["limits"].items()},
    )
