"""Tests that an item has one place and one result, and a lane no more leases than its limit."""

import asyncio
import time
from collections.abc import Mapping

import pytest
from arq.connections import ArqRedis
from redis.exceptions import ConnectionError as RedisConnectionError
from support.claims import accept, claim, commit, finish, rate_limited, settle
from support.stack import eventually

from shared.jobs.staging import STAGING_TTL_S, Staging
from shared.jobs.store import Store
from shared.jobs.submission import QueueFull, UploadExpired
from shared.jobs.views import response
from shared.queue import item_results
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import MAX_CLAIM, Queue
from shared.queue.ids import ItemId
from shared.queue.leases import MAX_WORKER_LOSSES, Fault, Settlement
from shared.queue.operator_commands import Operator
from shared.queue.redis_keys import META_ITEMS, Keys
from shared.queue.verdict import Verdict
from shared.redis.client import RedisUnavailable, Script, connect

LANES = ("a", "b")


async def stored(store: Store, job_id: str) -> dict[int, bytes]:
    snapshot = await store.snapshot(job_id)
    assert snapshot is not None
    assert snapshot.results is not None
    return {index: result.partition(b" ")[2] for index, result in snapshot.results.items()}


async def expire_leases(redis: ArqRedis, keys: Keys, lane: str = "a") -> None:
    """Moves the expiry of every lease into the past."""
    for lease in await redis.zrange(keys.leases(lane), 0, -1):
        await redis.zadd(keys.leases(lane), {lease: 1})


async def make_retries_due(redis: ArqRedis, keys: Keys, lane: str = "a") -> None:
    for item in await redis.zrange(keys.deferred(lane), 0, -1):
        await redis.zadd(keys.deferred(lane), {item: 1})


async def test_items_are_claimed_in_order_with_their_payload(queue: Queue, store: Store) -> None:
    await accept(store, "one", "a" * 3, owner="ann")
    await accept(store, "two", "a" * 2, owner="ann")

    leases = await claim(queue)

    assert {lease.owner for lease in leases} == {"ann"}
    assert [lease.payload for lease in leases if lease.job_id == "one"] == [
        b"one 0",
        b"one 1",
        b"one 2",
    ]
    assert [lease.payload for lease in leases if lease.job_id == "two"] == [b"two 0", b"two 1"]
    assert {lease.attempts for lease in leases} == {0}
    assert leases[0].job_id == "one"


async def test_more_than_ten_thousand_items_keep_their_order(queue: Queue, store: Store) -> None:
    await accept(store, "job", "a" * 10_050, max_depth=20_000)

    first = await claim(queue, a=20_000)

    assert [lease.payload for lease in first] == [f"job {i}".encode() for i in range(len(first))]


async def test_running_never_exceeds_the_limit(queue: Queue, store: Store) -> None:
    await accept(store, "job", "a" * 30)

    claims = await asyncio.gather(*(claim(queue, a=10) for _ in range(8)))

    assert sum(len(leases) for leases in claims) == 10
    assert await claim(queue, a=10) == []


async def test_a_settled_lease_frees_exactly_its_slot(queue: Queue, store: Store) -> None:
    await accept(store, "job", "a" * 30)
    leases = await claim(queue, a=10)

    await finish(queue, leases[:3])

    assert len(await claim(queue, a=10)) == 3


async def test_a_full_lane_does_not_stop_another_lane(queue: Queue, store: Store) -> None:
    await accept(store, "job", "aaab")

    assert [lease.lane for lease in await claim(queue, a=2, b=2)] == ["a", "a", "b"]


async def test_slots_are_reserved_for_other_lanes(queue: Queue, store: Store) -> None:
    await accept(store, "job", "a" * 10)
    taken = await claim(queue, free_slots=8, a=100, b=100)
    await accept(store, "late", "b" * 10)

    late = await queue.settle_and_claim(
        [], Capacity(Limits({"a": 100, "b": 100}), {"a": len(taken)}, 2)
    )

    assert len(taken) == 6
    assert [lease.lane for lease in late.leases] == ["b", "b"]


async def test_the_result_of_an_item_is_written_once(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a")
    [first] = await claim(queue)
    await expire_leases(redis, keys)
    [second] = await claim(queue)

    await finish(queue, [second], b'"second"')
    await finish(queue, [first], b'"first"')

    assert await stored(store, "job") == {0: b'"second"'}


async def test_a_stored_result_is_never_overwritten(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    """Creates a state that no script creates: an item with both a lease and a result."""
    await accept(store, "job", "aa")
    [first, _] = await claim(queue)
    await redis.hset(keys.results("job"), "0", "1 stored")  # type: ignore[misc]

    await finish(queue, [first], b"later")

    assert await stored(store, "job") == {0: b"stored"}


async def test_settling_an_expired_lease_writes_nothing_and_frees_no_slot(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "aa")
    [late] = await claim(queue, a=1)
    await expire_leases(redis, keys)
    assert len(await claim(queue, a=1)) == 1

    await finish(queue, [late])

    assert await stored(store, "job") == {}
    assert await claim(queue, a=1) == []


async def test_an_answer_is_stored_if_its_expired_lease_was_not_reclaimed(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a")
    leases = await claim(queue)
    await expire_leases(redis, keys)

    await finish(queue, leases, b'"answer"')

    assert await stored(store, "job") == {0: b'"answer"'}


async def test_repeated_settlement_changes_nothing(queue: Queue, store: Store) -> None:
    await accept(store, "job", "aaa")
    [lease] = await claim(queue, a=1)

    retry = Settlement(lease, "retry")
    await settle(queue, retry)
    await settle(queue, retry)

    assert [again.attempts for again in await claim(queue, a=1)] == [1]
    assert await claim(queue, a=1) == []


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


async def test_a_retry_waits_for_its_delay_and_keeps_its_place(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "aaa")
    [lease] = await claim(queue, a=1)
    await settle(queue, Settlement(lease, "retry", delay_s=60))
    [other] = await claim(queue, a=1)
    await settle(queue, Settlement(other, "release"))

    await make_retries_due(redis, keys)

    assert [lease.item_id for lease in await claim(queue)] == [f"job:{index}" for index in range(3)]


async def test_a_pause_stops_its_lane_only(queue: Queue, store: Store) -> None:
    await accept(store, "job", "aab")
    [lease] = await claim(queue, a=1)

    await settle(queue, Settlement(lease, "retry", fault=rate_limited(60)))

    assert [lease.lane for lease in await claim(queue, a=5, b=5)] == ["b"]


async def test_a_shorter_pause_never_shortens_a_longer_one(queue: Queue, store: Store) -> None:
    await accept(store, "job", "aa")
    long, short = await claim(queue)

    await settle(queue, Settlement(long, "retry", fault=rate_limited(60)))
    await settle(queue, Settlement(short, "retry", fault=rate_limited(0.01)))

    claimed = await queue.settle_and_claim([], Capacity(Limits({"a": 10}), {}, 10))
    assert claimed.next_round_s == pytest.approx(60, abs=5)


async def test_a_probe_after_time_outs_has_a_longer_time_out(queue: Queue, store: Store) -> None:
    await accept(store, "job", "a" * 8)
    timed_out = Fault(Verdict.TRANSIENT, "did not answer in time", "timeout")
    found: list[int] = []

    async def probed() -> bool:
        leases = await claim(queue, a=5)
        found.extend(lease.timeout_factor for lease in leases)
        await settle(queue, *(Settlement(lease, "retry", fault=timed_out) for lease in leases))
        return len(found) == 5 + 2

    await eventually(probed)

    assert found == [1, 1, 1, 1, 1, 2, 4]


async def test_a_released_item_keeps_its_attempts(queue: Queue, store: Store) -> None:
    await accept(store, "job", "a")
    await settle(queue, *(Settlement(lease, "release") for lease in await claim(queue)))

    assert [lease.attempts for lease in await claim(queue)] == [0]


async def test_renewal_extends_leases_and_returns_the_removed_ones(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "aa")
    kept, removed = await claim(queue)
    await redis.zrem(keys.leases("a"), removed.lease_id)
    before = await redis.zscore(keys.leases("a"), kept.lease_id)

    assert await queue.renew("worker", [kept, removed]) == {removed.lease_id}
    assert await redis.zscore(keys.leases("a"), kept.lease_id) > before
    assert await redis.zcard(keys.leases("a")) == 1
    assert await queue.workers() == ["worker"]


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


async def test_accepting_a_job_twice_creates_one_job(queue: Queue, store: Store) -> None:
    await accept(store, "job", "aa")
    await finish(queue, await claim(queue))
    await accept(store, "job", "aa")

    assert await claim(queue) == []


async def test_a_full_lane_refuses_the_whole_job(store: Store, redis: ArqRedis, keys: Keys) -> None:
    await accept(store, "first", "aaa", max_depth=4)

    with pytest.raises(QueueFull) as refusal:
        await accept(store, "second", "baa", max_depth=4)

    assert refusal.value.lane == "a"
    assert await store.snapshot("second") is None
    assert {key.decode() for key in await redis.keys(f"{keys.prefix}*second*")} == set()
    assert await redis.hgetall(keys.depth("b")) == {}  # type: ignore[misc]


async def test_the_depth_limit_of_a_lane_holds_per_owner(queue: Queue, store: Store) -> None:
    await accept(store, "first", "aa", max_depth=2, owner="ann")
    leases = await claim(queue)
    await settle(queue, *(Settlement(lease, "retry", delay_s=60) for lease in leases))
    await accept(store, "second", "aa", max_depth=2, owner="ann")

    await accept(store, "third", "aa", max_depth=2, owner="bob")

    with pytest.raises(QueueFull):
        await accept(store, "fourth", "a", max_depth=2, owner="bob")


async def test_a_completed_job_keeps_only_keys_that_expire(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "ab")
    await finish(queue, await claim(queue, a=5, b=5))
    assert await claim(queue, a=5, b=5) == []  # this round removes the lanes from the index

    left = {key.decode(): await redis.ttl(key) for key in await redis.keys(f"{keys.prefix}*")}

    lists = (keys.jobs_by_owner(""), keys.batches_by_owner(""), keys.job_expirations)
    kept = (*lists, keys.layout_version, keys.clock("rounds"))
    expiring = {key: left.pop(key) for key in list(left) if left[key] >= 0}
    assert left == dict.fromkeys(kept, -1)
    assert expiring.keys() == {
        key("job") for key in (keys.job, keys.results, keys.completion_order)
    }
    assert all(30 < ttl_s <= 60 for ttl_s in expiring.values())
    assert await redis.zscore(keys.job_expirations, " job") == pytest.approx(
        time.time() * 1000 + 60_000, abs=5000
    )


async def test_an_expired_job_is_removed_from_the_lists(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "a", owner="me")
    await finish(queue, await claim(queue))
    await redis.zadd(keys.job_expirations, {"me job": 1})

    await queue.expire_overdue()

    lists = (keys.jobs_by_owner("me"), keys.batches_by_owner("me"), keys.job_expirations)
    assert await redis.exists(*lists) == 0


async def test_the_last_result_publishes_the_job(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", "aa")
    first, last = await claim(queue)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.job_finished)
        await pubsub.get_message(timeout=30)
        await finish(queue, [first])
        await finish(queue, [last])

        message = await pubsub.get_message(timeout=30)
        second_message = await pubsub.get_message(timeout=0.05)

    assert message is not None
    assert message["data"] == b"job"
    assert second_message is None


async def test_a_server_that_forgets_a_script_while_it_is_loaded_is_unavailable(
    valkey_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is restarted between redis-py's SCRIPT LOAD and the call that follows."""
    client = connect(valkey_url)
    script = Script(client, f"return 'never loaded {keys.prefix}'")

    async def forget(_script: str) -> str:
        return script.sha

    monkeypatch.setattr(client, "script_load", forget)
    with pytest.raises(RedisUnavailable):
        await script()

    await client.aclose()


async def test_scripts_are_loaded_again_after_the_server_has_lost_them(
    queue: Queue, store: Store, redis: ArqRedis
) -> None:
    await accept(store, "job", "a")
    await redis.script_flush()

    [lease] = await claim(queue)
    await redis.script_flush()
    claimed = await queue.settle_and_claim(
        [Settlement(lease, "complete", b'"answer"')], Capacity(Limits({"a": 1}), {}, 1)
    )

    assert claimed.leases == []
    assert await stored(store, "job") == {0: b'"answer"'}


async def test_accepting_wakes_the_workers(store: Store, redis: ArqRedis, keys: Keys) -> None:
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.wake)
        await pubsub.get_message(timeout=30)
        await accept(store, "job", "a")

        assert await pubsub.get_message(timeout=30) is not None


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


async def test_prefixes_with_odd_characters_work(redis: ArqRedis, keys: Keys) -> None:
    odd = Keys(f'{keys.prefix}"\\]] é\n:')
    await accept(Store(redis, odd), "job", "a")

    assert len(await claim(Queue(redis, odd, lease_s=1))) == 1


async def test_a_long_upload_keeps_all_staged_items(
    store: Store, redis: ArqRedis, keys: Keys
) -> None:
    """Each part of the upload extends the time to live of all earlier parts."""
    async with store.staging("job") as staging:
        for lane in ("b" * META_ITEMS, "a" * META_ITEMS):
            for index in range(META_ITEMS):
                await staging.add(lane[0], f"{index}".encode(), (None, lane[0], "m"))
            staged = [keys.queue(name, "job", "m") for name in set(lane)] + [keys.payloads("job")]
            assert {0 < await redis.ttl(key) <= STAGING_TTL_S for key in staged} == {True}
            if lane[0] == "b":
                await redis.expire(keys.queue("b", "job", "m"), 5)
        assert await redis.ttl(keys.queue("b", "job", "m")) > STAGING_TTL_S - 60
        await commit(staging, max_depth=5000)

    assert await redis.ttl(keys.queue("b", "job", "m")) == -1


@pytest.mark.parametrize("lost", ["payloads", "queue"])
async def test_an_upload_is_refused_if_a_part_has_expired(
    store: Store, redis: ArqRedis, keys: Keys, lost: str
) -> None:
    async def upload() -> None:
        async with store.staging("job") as staging:
            for index in range(META_ITEMS):
                await staging.add("a", f"{index}".encode(), (None, "a", "m"))
            key = keys.payloads("job") if lost == "payloads" else keys.queue("a", "job", "m")
            await redis.delete(key)
            await staging.add("b", b"", (None, "b", "m"))
            await commit(staging, max_depth=5000)

    with pytest.raises(UploadExpired):
        await upload()

    left = [key.decode() async for key in redis.scan_iter(f"{keys.prefix}*")]
    assert left == [keys.layout_version]


async def test_a_job_is_complete_although_the_reply_to_its_last_part_is_lost(
    store: Store, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Staging._send  # noqa: SLF001

    async def without_reply(staging: Staging, submission: Mapping[str, object] | None) -> str:
        reply = await send(staging, submission)
        if submission:
            raise RedisConnectionError
        return reply

    monkeypatch.setattr(Staging, "_send", without_reply)
    with pytest.raises(RedisConnectionError):
        await accept(store, "job", "a" * (META_ITEMS + 1))

    assert len(await claim(queue)) == 10


async def test_retrying_an_expired_job_does_not_create_its_key(
    store: Store, redis: ArqRedis, keys: Keys
) -> None:
    assert await accept(store, "new", ["a"], retry_of="old") == "new"

    assert not await redis.exists(keys.job("old"))


async def test_the_only_item_that_waits_is_every_probe(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    """Another item would be the next probe, if there were another."""
    unreachable = Fault(Verdict.UNREACHABLE, "could not be reached", "connection_error")
    await accept(store, "job", "a")
    claims = []
    for _ in range(4):
        leases = await claim(queue)
        claims.append([lease.item_id for lease in leases])
        await settle(queue, *(Settlement(lease, "retry", fault=unreachable) for lease in leases))
        blocked = await claim(queue)
        assert await Operator(redis, keys).resume("a") == ["a"]
        assert blocked == []

    assert claims == [[ItemId("job:0")]] * 4
