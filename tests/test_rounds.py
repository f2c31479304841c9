"""Tests when a worker's next round is due, and what wakes workers before."""

import pytest
from arq.connections import ArqRedis
from support.claims import accept, claim, make_retries_due, settle
from support.stack import eventually

from shared.jobs.store import Store
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import MAX_CLAIM, Queue
from shared.queue.leases import Settlement
from shared.queue.redis_keys import Keys


async def test_accepting_wakes_the_workers(store: Store, redis: ArqRedis, keys: Keys) -> None:
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.wake)
        await pubsub.get_message(timeout=30)
        await accept(store, "job", "a")

        assert await pubsub.get_message(timeout=30) is not None


async def test_a_claim_returns_the_time_until_a_retry_is_due(queue: Queue, store: Store) -> None:
    await accept(store, "job", "a")
    [lease] = await claim(queue)
    await settle(queue, Settlement(lease, "retry", delay_s=1))
    capacity = Capacity(Limits({"a": 1}), {}, 1)

    claimed = await queue.settle_and_claim([], capacity)

    assert claimed.leases == []
    assert claimed.next_round_s is not None
    assert 0 < claimed.next_round_s <= 1

    async def runs_again() -> bool:
        return len((await queue.settle_and_claim([], capacity)).leases) == 1

    await eventually(runs_again)


async def test_a_retry_that_became_due_runs_once(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a")
    [lease] = await claim(queue)
    await settle(queue, Settlement(lease, "retry", delay_s=60))
    await make_retries_due(redis, keys)

    assert len(await claim(queue)) == 1
    assert await claim(queue) == []


async def test_a_claim_returns_the_time_until_a_lease_expires(queue: Queue, store: Store) -> None:
    await accept(store, "job", "a")

    claimed = await queue.settle_and_claim([], Capacity(Limits({"a": 1}), {}, 1))

    assert claimed.next_round_s == pytest.approx(60, abs=0.1)  # see the fixture `queue`


async def test_after_a_claim_of_the_maximum_the_next_round_is_due_at_once(
    queue: Queue, store: Store
) -> None:
    await accept(store, "job", "a" * (MAX_CLAIM + 1))
    capacity = Capacity(Limits({"a": 100}), {}, 100)

    first = await queue.settle_and_claim([], capacity)
    rest = await queue.settle_and_claim([], capacity)

    assert (len(first.leases), first.next_round_s) == (MAX_CLAIM, 0)
    assert len(rest.leases) == 1


async def test_a_worker_that_cannot_claim_all_items_wakes_the_others(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a" * 9)
    first, *_ = await claim(queue, free_slots=3)
    capacity = Capacity(Limits({"a": 10}), {}, 1)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.wake)
        await pubsub.get_message(timeout=30)

        await queue.settle_and_claim([Settlement(first, "complete", b"{}")], capacity)
        woken = await pubsub.get_message(timeout=30)
        await queue.settle_and_claim([], capacity)
        second_message = await pubsub.get_message(timeout=0.05)

    assert woken is not None
    assert second_message is None


async def test_a_worker_that_claims_nothing_wakes_the_others(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a" * 9)
    leases = await claim(queue)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.wake)
        await pubsub.get_message(timeout=30)

        await queue.settle_and_claim([Settlement(leases[0], "release")], None)

        assert await pubsub.get_message(timeout=30) is not None


async def test_an_idle_queue_needs_no_next_round(queue: Queue) -> None:
    assert (
        await queue.settle_and_claim([], Capacity(Limits({"a": 1}), {}, 1))
    ).next_round_s is None
