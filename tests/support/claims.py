"""Accepts jobs, claims items, settles and expires leases without an API or a worker."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from arq.connections import ArqRedis

from shared.jobs.staging import Staging
from shared.jobs.store import Store
from shared.jobs.submission import JobPolicy, Submission, acceptance
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.leases import Fault, Lease, Settlement
from shared.queue.redis_keys import Keys
from shared.queue.verdict import Verdict

POLICY = JobPolicy(result_ttl_s=60, idempotency_ttl_s=60, max_queue_depth=100_000)


def rate_limited(wait_s: float) -> Fault:
    return Fault(
        Verdict.RATE_LIMITED, "answered 429", "rate_limited", status_code=429, wait_s=wait_s
    )


async def accept(
    store: Store, job_id: str, lanes: Sequence[str], *, max_depth: int = 1000, **submission: Any
) -> str:
    """Accepts a job with one item for each lane of `lanes`.

    submission: fields of a Submission.
    """
    async with store.staging(job_id) as staging:
        for index, lane in enumerate(lanes):
            await staging.add(lane, f"{job_id} {index}".encode(), (None, lane, "m"))
        return await commit(staging, max_depth=max_depth, **submission)


async def commit(
    staging: Staging, *, max_depth: int = 100_000, retry_of: str | None = None, **submission: Any
) -> str:
    policy = replace(POLICY, max_queue_depth=max_depth)
    return await staging.commit(acceptance(Submission(**submission), policy, retry_of=retry_of))


async def claim(queue: Queue, *, free_slots: int = 100, **limits: int) -> list[Lease]:
    """Claims up to `free_slots` items.

    limits: limit of each lane, by the lane's name. Default: 10 for lane a.
    """
    capacity = Capacity(Limits(limits or {"a": 10}), {}, free_slots)
    return (await queue.settle_and_claim([], capacity)).leases


async def settle(queue: Queue, *settlements: Settlement) -> None:
    await queue.settle_and_claim(settlements, None)


async def finish(queue: Queue, leases: Sequence[Lease], result: bytes = b"{}") -> None:
    """Settles every lease with the same result."""
    await settle(queue, *(Settlement(lease, "complete", result) for lease in leases))


async def stored(store: Store, job_id: str) -> dict[int, bytes]:
    snapshot = await store.snapshot(job_id)
    assert snapshot is not None
    assert snapshot.results is not None
    return {index: result.partition(b" ")[2] for index, result in snapshot.results.items()}


async def expire_leases(redis: ArqRedis, keys: Keys, lane: str = "a") -> None:
    """Moves the expiry of every lease of the lane into the past."""
    for lease in await redis.zrange(keys.leases(lane), 0, -1):
        await redis.zadd(keys.leases(lane), {lease: 1})


async def make_retries_due(redis: ArqRedis, keys: Keys, lane: str = "a") -> None:
    for item in await redis.zrange(keys.deferred(lane), 0, -1):
        await redis.zadd(keys.deferred(lane), {item: 1})
