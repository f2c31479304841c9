"""Tests what cancelling a job changes in the queue."""

import pytest
from arq.connections import ArqRedis
from support.claims import accept, claim, expire_leases, finish, make_retries_due, settle, stored

from shared.jobs.store import Store
from shared.jobs.views import response
from shared.queue.claims import Queue
from shared.queue.leases import Settlement
from shared.queue.redis_keys import Keys


async def test_cancelling_ends_a_job_but_its_slots_stay_used_until_the_calls_stop(
    queue: Queue,
    store: Store,
) -> None:
    await accept(store, "job", "aaaa")
    answered, running = await claim(queue, a=2)
    await finish(queue, [answered], b'"answer"')

    assert await store.cancel("job")

    snapshot = await store.snapshot("job")
    assert snapshot is not None
    assert snapshot.finished_ms is not None
    assert snapshot.finished_early_as == "cancelled"
    assert await stored(store, "job") == {0: b'"answer"'}
    assert await queue.renew("worker", [running]) == {running.lease_id}
    await accept(store, "next", "aa")
    assert len(await claim(queue, a=2)) == 1
    await settle(queue, Settlement(running, "release"))
    assert len(await claim(queue, a=2)) == 1


async def test_the_result_of_a_cancelled_item_counts_no_attempts(
    queue: Queue, store: Store
) -> None:
    await accept(store, "job", "a")
    [lease] = await claim(queue)
    await settle(queue, Settlement(lease, "retry", b"{}", delay_s=60))

    await store.cancel("job")

    snapshot = await store.snapshot("job")
    assert snapshot is not None
    result = response((None, "a", "m"), None, snapshot)
    assert result is not None
    assert (result.error_code, result.attempts) == ("cancelled", 0)


@pytest.mark.parametrize("outcome", ["complete", "fail", "retry", "release"])
async def test_a_cancelled_item_never_runs_again(queue: Queue, store: Store, outcome: str) -> None:
    await accept(store, "job", "a")
    [lease] = await claim(queue)
    await store.cancel("job")

    await settle(queue, Settlement(lease, outcome))  # type: ignore[arg-type]

    assert await claim(queue) == []
    assert await stored(store, "job") == {}


async def test_a_cancelled_item_of_a_lost_worker_never_runs_again(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a")
    await claim(queue)
    await store.cancel("job")
    await expire_leases(redis, keys)

    assert await claim(queue) == []
    assert await redis.zcard(keys.leases("a")) == 0


async def test_cancelling_a_completed_job_changes_nothing(queue: Queue, store: Store) -> None:
    await accept(store, "job", "a")
    await finish(queue, await claim(queue), b'"answer"')
    before = await store.snapshot("job")

    assert await store.cancel("job")

    assert await store.snapshot("job") == before


async def test_cancelling_an_unknown_job_creates_nothing(
    store: Store, redis: ArqRedis, keys: Keys
) -> None:
    assert not await store.cancel("nobody")
    assert await redis.keys(f"{keys.prefix}*") == []


async def test_cancelling_tells_the_workers(store: Store, redis: ArqRedis, keys: Keys) -> None:
    await accept(store, "job", "a")
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.job_cancelled)
        await pubsub.get_message(timeout=30)
        await store.cancel("job")

        message = await pubsub.get_message(timeout=30)

    assert message is not None
    assert message["data"] == b"job"


async def test_cancelling_also_cancels_deferred_items(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a")
    await settle(
        queue,
        *(Settlement(lease, "retry", delay_s=60) for lease in await claim(queue)),
    )

    await store.cancel("job")
    await make_retries_due(redis, keys)

    assert await claim(queue) == []
    assert await redis.zcard(keys.deferred("a")) == 0
