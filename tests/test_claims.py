"""Tests that an item has one place and one result, and a lane no more leases than its limit."""

import asyncio

import pytest
from arq.connections import ArqRedis
from support.claims import (
    accept,
    claim,
    expire_leases,
    finish,
    make_retries_due,
    rate_limited,
    settle,
    stored,
)
from support.stack import eventually

from shared.jobs.store import Store
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.ids import ItemId
from shared.queue.leases import Fault, Settlement
from shared.queue.operator_commands import Operator
from shared.queue.redis_keys import Keys
from shared.queue.verdict import Verdict
from shared.redis.client import RedisUnavailable, Script, connect


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


async def test_prefixes_with_odd_characters_work(redis: ArqRedis, keys: Keys) -> None:
    odd = Keys(f'{keys.prefix}"\\]] é\n:')
    await accept(Store(redis, odd), "job", "a")

    assert len(await claim(Queue(redis, odd, lease_s=1))) == 1


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
