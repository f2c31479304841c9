"""The leases a worker holds: its calls in flight, and until when each may go on."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from shared.queue.claims import Lease, Settlement


@dataclass(slots=True)
class _Held:
    lease: Lease
    call: asyncio.Task[Settlement]
    ends_at: float
    stopped: bool = False

    def stop(self) -> bool:
        """False if it was stopped before."""
        first, self.stopped = not self.stopped, True
        self.call.cancel()
        return first


# Linux's monotonic clock stands still while the machine sleeps; Redis's does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    return time.clock_gettime(_CLOCK)


class HeldLeases:
    """`ends_at` is of `now`, counted from before Redis was asked, so it is never later
    than the end that Redis knows."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self.running: Counter[str] = Counter()  # by lane
        self.quarantined = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def leases(self) -> list[Lease]:
        return [held.lease for held in self._held.values()]

    def add(self, lease: Lease, call: asyncio.Task[Settlement], ends_at: float) -> None:
        self._held[lease.lease_id] = _Held(lease, call, ends_at)
        self.running[lease.lane] += 1
        self.quarantined += lease.quarantined

    def remove(self, lease: Lease) -> None:
        del self._held[lease.lease_id]
        self.running[lease.lane] -= 1
        self.quarantined -= lease.quarantined

    def prolong(self, leases: Iterable[Lease], ends_at: float) -> None:
        for lease in leases:
            if held := self._held.get(lease.lease_id):
                held.ends_at = ends_at

    def stop(self, lease_ids: Iterable[str]) -> int:
        """Returns how many had to stop."""
        held = (self._held.get(lease_id) for lease_id in lease_ids)
        return sum(one.stop() for one in held if one)

    def stop_job(self, job_id: str) -> None:
        self.stop([lease.lease_id for lease in self.leases if lease.job_id == job_id])

    def stop_ended(self) -> int:
        """Returns how many had to stop."""
        at = now()
        return self.stop([i for i, held in self._held.items() if held.ends_at <= at])
