"""Keeps the running calls of a worker, each with its lease and the time when the call must stop."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from shared.queue.leases import Lease, Settlement

# Linux's CLOCK_MONOTONIC stops while the machine sleeps. Redis's clock and CLOCK_BOOTTIME do not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    return time.clock_gettime(_CLOCK)


@dataclass(slots=True)
class _RunningCall:
    lease: Lease
    task: asyncio.Task[Settlement]
    stop_at: float
    is_stopped: bool = False

    def stop(self) -> bool:
        """Stops the call. Returns whether the call had not been stopped before."""
        is_first, self.is_stopped = not self.is_stopped, True
        self.task.cancel()
        return is_first


class RunningCalls:
    """Keeps the running calls of this worker. Each call must stop at its `stop_at`.

    `stop_at` is a time on the clock of `now`. It is computed from the time before Redis was asked
    to grant or renew the lease, so `stop_at` is never later than the end of the lease in Redis.
    """

    def __init__(self) -> None:
        self._calls: dict[str, _RunningCall] = {}  # calls by lease id
        self.by_lane: Counter[str] = Counter()  # number of calls by lane, without idle lanes
        self.payload_bytes = 0
        self.quarantined = 0  # number of calls whose items came from the quarantine

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def leases(self) -> list[Lease]:
        return [call.lease for call in self._calls.values()]

    def add(self, lease: Lease, task: asyncio.Task[Settlement], stop_at: float) -> None:
        self._calls[lease.lease_id] = _RunningCall(lease, task, stop_at)
        self.by_lane[lease.lane] += 1
        self.payload_bytes += len(lease.payload)
        self.quarantined += lease.quarantined

    def remove(self, lease: Lease) -> None:
        del self._calls[lease.lease_id]
        self.by_lane[lease.lane] -= 1
        if not self.by_lane[lease.lane]:
            del self.by_lane[lease.lane]
        self.payload_bytes -= len(lease.payload)
        self.quarantined -= lease.quarantined

    def extend(self, leases: Iterable[Lease], stop_at: float) -> None:
        """Sets the `stop_at` of the calls with these leases. Skips calls that have ended."""
        for lease in leases:
            if call := self._calls.get(lease.lease_id):
                call.stop_at = stop_at

    def stop(self, lease_ids: Iterable[str]) -> int:
        """Stops the calls with these leases. Skips leases without a running call.

        Returns the number of calls that had not been stopped before.
        """
        calls = (self._calls.get(lease_id) for lease_id in lease_ids)
        return sum(call.stop() for call in calls if call)

    def stop_job(self, job_id: str) -> None:
        self.stop([lease.lease_id for lease in self.leases if lease.job_id == job_id])

    def stop_expired(self) -> int:
        """Stops the calls whose `stop_at` has passed. Returns the same number as `stop`."""
        time_now = now()
        return self.stop([i for i, call in self._calls.items() if call.stop_at <= time_now])
