"""Calls of the queue's core without an API or a worker: accept a job, claim, settle."""

from collections.abc import Sequence
from typing import Any

from shared.jobs.store import Store, Submission
from shared.queue.claims import Capacity, Lease, Queue, Settlement


async def accept(
    store: Store, job_id: str, lanes: Sequence[str], *, max_depth: int = 1000, **submission: Any
) -> str:
    async with store.staging(job_id) as staging:
        for index, lane in enumerate(lanes):
            await staging.add(lane, f"{job_id} {index}".encode(), (None, lane, "m"))
        return await staging.commit(Submission(ttl_s=60, max_depth=max_depth, **submission))


async def claim(queue: Queue, *, places: int = 100, reserve: int = 0, **limits: int) -> list[Lease]:
    """Claims up to `places` items; `limits` by lane."""
    capacity = Capacity(limits or {"a": 10}, {}, places, reserve)
    return (await queue.settle_and_claim([], capacity)).leases


async def settle(queue: Queue, *settlements: Settlement) -> None:
    await queue.settle_and_claim(settlements, None)


async def finish(queue: Queue, leases: Sequence[Lease], result: bytes = b"{}") -> None:
    """Settles every lease with the same result."""
    await settle(queue, *(Settlement(lease, "end", result) for lease in leases))
