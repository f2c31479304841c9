"""Tests items whose workers are lost: they run again, and fail after the third loss."""

from arq.connections import ArqRedis
from support.claims import accept, claim, expire_leases, finish, settle, stored

from shared.jobs.store import Store
from shared.queue import item_results
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.leases import MAX_WORKER_LOSSES, Settlement
from shared.queue.redis_keys import Keys


async def test_items_of_a_lost_worker_run_first_and_keep_their_attempts(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "aaa")
    [lost] = await claim(queue, a=1)
    await expire_leases(redis, keys)

    [again] = await claim(queue, a=1)

    assert (again.item_id, again.attempts) == (lost.item_id, 0)
    assert again.lease_id != lost.lease_id


async def test_an_item_that_lost_too_many_workers_fails(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a")
    for _ in range(MAX_WORKER_LOSSES):
        assert len(await claim(queue)) == 1
        await expire_leases(redis, keys)

    assert await claim(queue) == []
    assert await stored(store, "job") == {0: item_results.WORKER_LOST.to_json()}


async def test_only_the_item_that_crashes_workers_fails(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    """Item 3 crashes every worker that runs it, and so interrupts the worker's other items."""
    await accept(store, "job", "a" * 10)
    for _ in range(20):
        leases = await claim(queue)
        if any(lease.item_id.endswith(":3") for lease in leases):
            await expire_leases(redis, keys)
        else:
            await finish(queue, leases)

    results_ = await stored(store, "job")
    assert results_.pop(3) == item_results.WORKER_LOST.to_json()
    assert results_ == {index: b"{}" for index in range(10) if index != 3}


async def test_a_worker_runs_one_quarantined_item_at_a_time(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "aaab")
    limits = {"a": 10, "b": 10}
    for _ in range(MAX_WORKER_LOSSES - 1):
        await claim(queue, **limits)
        for lane in limits:
            await expire_leases(redis, keys, lane)
    await accept(store, "new", "aabb")

    first = (await queue.settle_and_claim([], Capacity(Limits(limits), {}, 100))).leases
    second = (
        await queue.settle_and_claim([], Capacity(Limits(limits), {}, 100, quarantined=1))
    ).leases
    third = (await queue.settle_and_claim([], Capacity(Limits(limits), {}, 100))).leases

    assert [lease.item_id for lease in first if lease.quarantined] == ["job:0"]
    assert len(first) == 1 + 4
    assert second == []
    assert [lease.item_id for lease in third] == ["job:1"]


async def test_a_released_quarantined_item_is_quarantined_again(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a")
    for _ in range(MAX_WORKER_LOSSES - 1):
        await claim(queue)
        await expire_leases(redis, keys)
    [lease] = await claim(queue)

    await settle(queue, Settlement(lease, "release"))

    assert await redis.zrange(keys.quarantine("a"), 0, -1) == [b"job:0"]
    await store.cancel("job")
    assert await claim(queue) == []
    assert await redis.zcard(keys.quarantine("a")) == 0


async def test_a_worker_that_settles_late_was_not_lost(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    """Several times, Redis is unavailable for longer than a lease."""
    await accept(store, "job", "aa")
    for _ in range(MAX_WORKER_LOSSES + 1):
        leases = await claim(queue)
        assert [lease.worker_losses for lease in leases] == [0, 0]
        await expire_leases(redis, keys)
        reclaimed = await claim(queue)
        assert [lease.worker_losses for lease in reclaimed] == [1, 1]
        for _ in range(2):  # the second time changes nothing
            await settle(queue, *(Settlement(lease, "release") for lease in leases))
        await settle(queue, *(Settlement(lease, "release") for lease in reclaimed))


async def test_a_failed_attempt_resets_the_worker_losses(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a")
    for _ in range(MAX_WORKER_LOSSES - 1):
        await claim(queue)
        await expire_leases(redis, keys)
    await settle(queue, *(Settlement(lease, "retry") for lease in await claim(queue)))
    await claim(queue)
    await expire_leases(redis, keys)

    assert len(await claim(queue)) == 1
