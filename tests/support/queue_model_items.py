"""Models the items, jobs and leases of the queue."""

from dataclasses import dataclass, field
from typing import Literal

from shared.queue.leases import Lease

Place = Literal["queue", "quarantine", "deferred", "leases", "results", "nowhere"]


@dataclass
class Item:
    job: "Job"
    index: int
    lane: str
    route: str
    place: Place = "queue"
    due: bool = False
    attempts: int = 0
    uncounted: int = 0  # attempts that failed and do not count
    losses: set[str] = field(
        default_factory=set
    )  # ids of the leases that expired without a settlement
    first_us: int = 0  # time of the first claim that failed or lost its worker
    result: bytes = b""
    failed: bool = False

    @property
    def id(self) -> str:
        return f"{self.job.id}:{self.index}"

    @property
    def entry(self) -> str:
        """Returns the item's member in the sorted sets of its lane: see lua/lib/ids.lua."""
        number = self.job.routes(self.lane).index(self.route) + 1
        return self.id if number == 1 else f"{self.id}.{number}"

    def finish(self, result: bytes, *, failed: bool) -> None:
        if self.job.ended:
            self.place = "nowhere"
            return
        self.place, self.result, self.failed = "results", result, failed
        self.job.finished_indexes.append(self.index)


@dataclass
class Job:
    id: str
    owner: str
    interactive: bool
    items: list[Item] = field(default_factory=list)
    finished_indexes: list[int] = field(default_factory=list)
    error_code: str | None = None
    started: bool = False
    overdue: bool = False
    latency_ms: float = 0

    @property
    def kind(self) -> str:
        return "interactive" if self.interactive else "bulk"

    @property
    def ended(self) -> bool:
        return self.error_code is not None or len(self.finished_indexes) == len(self.items)

    def routes(self, lane: str) -> list[str]:
        return list(dict.fromkeys(item.route for item in self.items if item.lane == lane))

    def end_early(self, error_code: str) -> None:
        if not self.ended:
            self.error_code = error_code
            for item in self.items:
                if item.place == "queue":
                    item.place = "nowhere"


@dataclass
class Held:
    """Describes a lease in Redis. Its slot stays used even after the item's job has ended."""

    lease: Lease
    worker: str
    item: Item
    expired: bool = False  # whether the lease has expired and no script has reclaimed it


def claim_us(lease: Lease) -> int:
    return lease.lease_id.claimed_us
