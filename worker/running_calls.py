"""The calls that a worker runs, each with its lease and the time until which it may run."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from shared.queue.claims import Lease, Settlement

# Linux's CLOCK_MONOTONIC stands still while the machine sleeps; Redis's clock does not.
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
        """Returns False if the call was stopped before."""
        is_first, self.is_stopped = not self.is_stopped, True
        self.task.cancel()
        return is_first


class RunningCalls:
    """The calls that this worker makes, each with the time when it must stop.

    That time is `stop_at`, on the clock of `now`. It is counted from before Redis was asked for the
    lease, so it is never later than the end of the lease in Redis.
    """

    def __init__(self) -> None:
        self._calls: dict[str, _RunningCall] = {}  # by lease id
        self.by_lane: Counter[str] = Counter()
        self.quarantined = 0  # calls of items from the quarantine

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def leases(self) -> list[Lease]:
        return [call.lease for call in self._calls.values()]

    def add(self, lease: Lease, task: asyncio.Task[Settlement], stop_at: float) -> None:
        self._calls[lease.lease_id] = _RunningCall(lease, task, stop_at)
        self.by_lane[lease.lane] += 1
        self.quarantined += lease.quarantined

    def remove(self, lease: Lease) -> None:
        del self._calls[lease.lease_id]
        self.by_lane[lease.lane] -= 1
        self.quarantined -= lease.quarantined

    def extend(self, leases: Iterable[Lease], stop_at: float) -> None:
        """Lets the calls of renewed leases run until `stop_at`; some may be over already."""
        for lease in leases:
            if call := self._calls.get(lease.lease_id):
                call.stop_at = stop_at

    def stop(self, lease_ids: Iterable[str]) -> int:
        """Returns how many calls were still running."""
        calls = (self._calls.get(lease_id) for lease_id in lease_ids)
        return sum(call.stop() for call in calls if call)

    def stop_job(self, job_id: str) -> None:
        self.stop([lease.lease_id for lease in self.leases if lease.job_id == job_id])

    def stop_expired(self) -> int:
        """Returns how many calls were still running."""
        time_now = now()
        return self.stop([i for i, call in self._calls.items() if call.stop_at <= time_now])
