"""The leases a worker holds: its calls in flight, and until when each may go on."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from shared.queue import Lease, Settlement


@dataclass(slots=True)
class _Held:
    lease: Lease
    call: asyncio.Task[Settlement]
    ends_at: float


class HeldLeases:
    """`ends_at` is of `time.monotonic`, counted from before Redis was asked, so it is never later
    than the end that Redis knows."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self.running: Counter[str] = Counter()  # by lane

    def __len__(self) -> int:
        return len(self._held)

    @property
    def leases(self) -> list[Lease]:
        return [held.lease for held in self._held.values()]

    def add(self, lease: Lease, call: asyncio.Task[Settlement], ends_at: float) -> None:
        self._held[lease.lease_id] = _Held(lease, call, ends_at)
        self.running[lease.lane] += 1

    def remove(self, lease: Lease) -> None:
        del self._held[lease.lease_id]
        self.running[lease.lane] -= 1

    def prolong(self, leases: Iterable[Lease], ends_at: float) -> None:
        for lease in leases:
            if held := self._held.get(lease.lease_id):
                held.ends_at = ends_at

    def stop(self, lease_ids: Iterable[str]) -> None:
        for lease_id in lease_ids:
            if held := self._held.get(lease_id):
                held.call.cancel()

    def stop_job(self, job_id: str) -> None:
        self.stop([lease.lease_id for lease in self.leases if lease.job_id == job_id])

    def stop_ended(self, now: float) -> int:
        """Returns how many had to stop."""
        ended = [held for held in self._held.values() if held.ends_at <= now]
        for held in ended:
            held.call.cancel()
        return len(ended)
