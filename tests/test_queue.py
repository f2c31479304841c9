"""The core's invariants, at the scripts: an item is in one place, running ≤ limit, one result."""

import asyncio
from collections.abc import Sequence

import pytest
from arq.connections import ArqRedis
from conftest import LEASE_S
from stack import eventually

from shared import results
from shared.keys import Keys
from shared.queue import CLAIM_AT_MOST, MAX_DEATHS, Capacity, LaneFull, Lease, Queue, Settlement

LANES = ("a", "b")


async def accept(queue: Queue, job_id: str, lanes: Sequence[str], *, max_depth: int = 1000) -> None:
    items = [(lane, f"{job_id} {index}".encode()) for index, lane in enumerate(lanes)]
    await queue.accept(job_id, items, meta=b"[]", ttl_s=60, max_depth=max_depth)


async def claim(queue: Queue, *, places: int = 100, reserve: int = 0, **limits: int) -> list[Lease]:
    capacity = Capacity(limits or {"a": 10}, {}, places, reserve)
    return (await queue.exchange([], capacity)).leases


async def settle(queue: Queue, *settlements: Settlement) -> None:
    await queue.exchange(settlements, None)


async def end(queue: Queue, leases: Sequence[Lease], result: bytes = b"{}") -> None:
    await settle(queue, *(Settlement(lease, "end", result) for lease in leases))


async def stored(queue: Queue, job_id: str) -> dict[int, bytes]:
    snapshot = await queue.snapshot(job_id)
    assert snapshot is not None
    return {index: result for index, (_, result) in snapshot.results.items()}


async def ended_leases(redis: ArqRedis, keys: Keys, lane: str = "a") -> None:
    """Moves the end of every lease into the past, as time would."""
    for lease in await redis.zrange(keys.leases(lane), 0, -1):
        await redis.zadd(keys.leases(lane), {lease: 1})


async def due_now(redis: ArqRedis, keys: Keys, lane: str = "a") -> None:
    for item in await redis.zrange(keys.deferred(lane), 0, -1):
        await redis.zadd(keys.deferred(lane), {item: 1})


async def test_items_come_out_in_order_with_their_payload(queue: Queue) -> None:
    await accept(queue, "one", "a" * 3)
    await accept(queue, "two", "a" * 2)

    leases = await claim(queue)

    assert [lease.payload for lease in leases] == [b"one 0", b"one 1", b"one 2", b"two 0", b"two 1"]
    assert {lease.attempts for lease in leases} == {0}
    assert leases[0].job_id == "one"


async def test_more_than_ten_thousand_items_keep_their_order(queue: Queue) -> None:
    await accept(queue, "job", "a" * 10_050, max_depth=20_000)

    first = await claim(queue, a=20_000)

    assert [lease.payload for lease in first] == [f"job {i}".encode() for i in range(len(first))]


async def test_running_never_exceeds_the_limit(queue: Queue) -> None:
    await accept(queue, "job", "a" * 30)

    claims = await asyncio.gather(*(claim(queue, a=10) for _ in range(8)))

    assert sum(len(leases) for leases in claims) == 10
    assert await claim(queue, a=10) == []


async def test_a_settled_lease_frees_exactly_its_slot(queue: Queue) -> None:
    await accept(queue, "job", "a" * 30)
    leases = await claim(queue, a=10)

    await end(queue, leases[:3])

    assert len(await claim(queue, a=10)) == 3


async def test_a_full_lane_leaves_the_other_alone(queue: Queue) -> None:
    await accept(queue, "job", "aaab")

    assert [lease.lane for lease in await claim(queue, a=2, b=2)] == ["a", "a", "b"]


async def test_places_are_kept_for_the_other_lanes(queue: Queue) -> None:
    await accept(queue, "job", "a" * 10)
    taken = await claim(queue, places=8, reserve=2, a=100, b=100)
    await accept(queue, "late", "b" * 10)

    late = await queue.exchange([], Capacity({"a": 100, "b": 100}, {"a": len(taken)}, 2, 2))

    assert len(taken) == 6
    assert [lease.lane for lease in late.leases] == ["b", "b"]


async def test_the_result_of_an_item_is_written_once(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "a")
    [first] = await claim(queue)
    await ended_leases(redis, keys)
    [second] = await claim(queue)

    await end(queue, [second], b'"second"')
    await end(queue, [first], b'"first"')

    assert await stored(queue, "job") == {0: b'"second"'}


async def test_a_lease_that_ended_settles_nothing_and_frees_no_slot(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "aa")
    [late] = await claim(queue, a=1)
    await ended_leases(redis, keys)
    assert len(await claim(queue, a=1)) == 1

    await end(queue, [late])

    assert await stored(queue, "job") == {}
    assert await claim(queue, a=1) == []


async def test_an_answer_in_time_counts_though_the_lease_is_past_its_end(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "a")
    leases = await claim(queue)
    await ended_leases(redis, keys)

    await end(queue, leases, b'"answer"')

    assert await stored(queue, "job") == {0: b'"answer"'}


async def test_repeated_settlement_changes_nothing(queue: Queue) -> None:
    await accept(queue, "job", "aaa")
    [lease] = await claim(queue, a=1)

    retry = Settlement(lease, "retry")
    await settle(queue, retry)
    await settle(queue, retry)

    assert [again.attempts for again in await claim(queue, a=1)] == [1]
    assert await claim(queue, a=1) == []


async def test_items_of_a_dead_worker_go_first_and_cost_no_attempt(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "aaa")
    [dead] = await claim(queue, a=1)
    await ended_leases(redis, keys)

    [again] = await claim(queue, a=1)

    assert (again.item_id, again.attempts) == (dead.item_id, 0)
    assert again.lease_id != dead.lease_id


async def test_an_item_that_kills_its_workers_is_given_up(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "a")
    for _ in range(MAX_DEATHS):
        assert len(await claim(queue)) == 1
        await ended_leases(redis, keys)

    assert await claim(queue) == []
    assert await stored(queue, "job") == {0: results.WORKER_LOST}


async def test_what_kills_workers_is_told_from_its_neighbours(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    """Every worker that runs item 3 dies of it, with all it runs beside it."""
    await accept(queue, "job", "a" * 10)
    for _ in range(20):
        leases = await claim(queue)
        if any(lease.item_id.endswith(":00003") for lease in leases):
            await ended_leases(redis, keys)
        else:
            await end(queue, leases)

    results_ = await stored(queue, "job")
    assert results_.pop(3) == results.WORKER_LOST
    assert results_ == {index: b"{}" for index in range(10) if index != 3}


async def test_a_worker_runs_one_item_of_the_quarantine_at_a_time(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "aaab")
    limits = {"a": 10, "b": 10}
    for _ in range(MAX_DEATHS - 1):
        await claim(queue, **limits)
        for lane in limits:
            await ended_leases(redis, keys, lane)
    await accept(queue, "new", "aabb")

    first = (await queue.exchange([], Capacity(limits, {}, 100, 0))).leases
    second = (await queue.exchange([], Capacity(limits, {}, 100, 0, quarantined=1))).leases
    third = (await queue.exchange([], Capacity(limits, {}, 100, 0))).leases

    assert [lease.item_id for lease in first if lease.quarantined] == ["job:00000"]
    assert len(first) == 1 + 4
    assert second == []
    assert [lease.item_id for lease in third] == ["job:00001"]


async def test_what_returns_from_the_quarantine_goes_back_there(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "a")
    for _ in range(MAX_DEATHS - 1):
        await claim(queue)
        await ended_leases(redis, keys)
    [lease] = await claim(queue)

    await settle(queue, Settlement(lease, "return"))

    assert await redis.zrange(keys.quarantine("a"), 0, -1) == [b"job:00000"]
    with pytest.raises(LaneFull):
        await accept(queue, "other", "a", max_depth=1)
    await queue.cancel("job")
    assert await redis.zcard(keys.quarantine("a")) == 0


async def test_a_worker_that_comes_back_has_not_died(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    """As when Redis was away for longer than a lease, again and again."""
    await accept(queue, "job", "aa")
    for _ in range(MAX_DEATHS + 1):
        leases = await claim(queue)
        assert [lease.deaths for lease in leases] == [0, 0]
        await ended_leases(redis, keys)
        taken_back = await claim(queue)
        assert [lease.deaths for lease in taken_back] == [1, 1]
        for _ in range(2):  # the second time changes nothing
            await settle(queue, *(Settlement(lease, "return") for lease in leases))
        await settle(queue, *(Settlement(lease, "return") for lease in taken_back))


async def test_a_failed_attempt_clears_the_deaths(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "a")
    for _ in range(MAX_DEATHS - 1):
        await claim(queue)
        await ended_leases(redis, keys)
    await settle(queue, *(Settlement(lease, "retry") for lease in await claim(queue)))
    await claim(queue)
    await ended_leases(redis, keys)

    assert len(await claim(queue)) == 1


async def test_a_retry_waits_for_its_delay_and_keeps_its_place(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "aaa")
    [lease] = await claim(queue, a=1)
    await settle(queue, Settlement(lease, "retry", delay_ms=60_000))
    [other] = await claim(queue, a=1)
    await settle(queue, Settlement(other, "return"))

    await due_now(redis, keys)

    assert [lease.item_id for lease in await claim(queue)] == [
        f"job:{index:05d}" for index in range(3)
    ]


async def test_a_pause_stops_its_lane_only(queue: Queue) -> None:
    await accept(queue, "job", "aab")
    [lease] = await claim(queue, a=1)

    await settle(queue, Settlement(lease, "retry", pause_ms=60_000))

    assert [lease.lane for lease in await claim(queue, a=5, b=5)] == ["b"]


async def test_a_shorter_pause_never_shortens_a_longer_one(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "aa")
    long, short = await claim(queue)

    await settle(queue, Settlement(long, "retry", pause_ms=60_000))
    await settle(queue, Settlement(short, "retry", pause_ms=10))

    assert await redis.pttl(keys.paused("a")) > 30_000
    claimed = await queue.exchange([], Capacity({"a": 10}, {}, 10, 0))
    assert claimed.again_in_s == pytest.approx(60, abs=5)


async def test_a_returned_item_costs_no_attempt(queue: Queue) -> None:
    await accept(queue, "job", "a")
    await settle(queue, *(Settlement(lease, "return") for lease in await claim(queue)))

    assert [lease.attempts for lease in await claim(queue)] == [0]


async def test_renewal_keeps_leases_and_names_those_that_ended(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "aa")
    kept, lost = await claim(queue)
    await redis.zrem(keys.leases("a"), lost.lease_id)
    before = await redis.zscore(keys.leases("a"), kept.lease_id)

    assert await queue.renew("worker", [kept, lost]) == {lost.lease_id}
    assert await redis.zscore(keys.leases("a"), kept.lease_id) > before
    assert await redis.zcard(keys.leases("a")) == 1
    assert await queue.workers() == ["worker"]


async def test_cancelling_ends_all_at_once_and_holds_slots_until_calls_stopped(
    queue: Queue,
) -> None:
    await accept(queue, "job", "aaaa")
    done, running = await claim(queue, a=2)
    await end(queue, [done], b'"answer"')

    assert await queue.cancel("job")

    snapshot = await queue.snapshot("job")
    assert snapshot is not None
    assert "finished_ms" in snapshot.fields
    assert await stored(queue, "job") == {
        0: b'"answer"',
        1: results.CANCELLED,
        2: results.CANCELLED,
        3: results.CANCELLED,
    }
    assert await queue.renew("worker", [running]) == {running.lease_id}
    await accept(queue, "next", "aa")
    assert len(await claim(queue, a=2)) == 1
    await settle(queue, Settlement(running, "return"))
    assert len(await claim(queue, a=2)) == 1


@pytest.mark.parametrize("verb", ["retry", "return", "end"])
async def test_a_cancelled_item_never_comes_back(queue: Queue, verb: str) -> None:
    await accept(queue, "job", "a")
    [lease] = await claim(queue)
    await queue.cancel("job")

    await settle(queue, Settlement(lease, verb))  # type: ignore[arg-type]

    assert await claim(queue) == []
    assert await stored(queue, "job") == {0: results.CANCELLED}


async def test_a_dead_workers_cancelled_item_never_comes_back(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "a")
    await claim(queue)
    await queue.cancel("job")
    await ended_leases(redis, keys)

    assert await claim(queue) == []
    assert await redis.zcard(keys.leases("a")) == 0


async def test_cancelling_a_finished_job_changes_nothing(queue: Queue) -> None:
    await accept(queue, "job", "a")
    await end(queue, await claim(queue), b'"answer"')
    before = await queue.snapshot("job")

    assert await queue.cancel("job")

    assert await queue.snapshot("job") == before


async def test_cancelling_an_unknown_job_makes_nothing(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    assert not await queue.cancel("nobody")
    assert await redis.keys(f"{keys.prefix}*") == []


async def test_accepting_twice_is_accepting_once(queue: Queue) -> None:
    await accept(queue, "job", "aa")
    await end(queue, await claim(queue))
    await accept(queue, "job", "aa")

    assert await claim(queue) == []


async def test_a_full_lane_refuses_all_of_a_job(queue: Queue, redis: ArqRedis, keys: Keys) -> None:
    await accept(queue, "first", "aaa", max_depth=4)

    with pytest.raises(LaneFull) as refusal:
        await accept(queue, "second", "baa", max_depth=4)

    assert refusal.value.lane == "a"
    assert await queue.snapshot("second") is None
    assert await redis.keys(f"{keys.prefix}item:second*") == []
    assert await redis.zcard(keys.queue("b")) == 0


async def test_deferred_items_count_as_queued(queue: Queue) -> None:
    await accept(queue, "first", "aa", max_depth=2)
    leases = await claim(queue)
    await settle(queue, *(Settlement(lease, "retry", delay_ms=60_000) for lease in leases))

    with pytest.raises(LaneFull):
        await accept(queue, "second", "a", max_depth=2)


async def test_an_ended_job_leaves_results_that_expire_and_nothing_else(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "ab")
    await end(queue, await claim(queue, a=5, b=5))

    left = {key.decode(): await redis.ttl(key) for key in await redis.keys(f"{keys.prefix}*")}

    assert left == {keys.job("job"): 60, keys.results("job"): 60}


async def test_the_last_result_publishes_the_job(queue: Queue, redis: ArqRedis, keys: Keys) -> None:
    await accept(queue, "job", "aa")
    first, last = await claim(queue)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.done)
        await pubsub.get_message(timeout=5)
        await end(queue, [first])
        await end(queue, [last])

        message = await pubsub.get_message(timeout=5)
        nothing_more = await pubsub.get_message(timeout=0.05)

    assert message is not None
    assert message["data"] == b"job"
    assert nothing_more is None


async def test_scripts_are_loaded_again_after_the_server_forgot_them(
    queue: Queue, redis: ArqRedis
) -> None:
    await accept(queue, "job", "a")
    await redis.script_flush()

    [lease] = await claim(queue)
    await redis.script_flush()
    claimed = await queue.exchange(
        [Settlement(lease, "end", b'"answer"')], Capacity({"a": 1}, {}, 1, 0)
    )

    assert claimed.leases == []
    assert await stored(queue, "job") == {0: b'"answer"'}


async def test_accepting_wakes_the_workers(queue: Queue, redis: ArqRedis, keys: Keys) -> None:
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.wake)
        await pubsub.get_message(timeout=5)
        await accept(queue, "job", "a")

        assert await pubsub.get_message(timeout=5) is not None


async def test_cancelling_tells_the_workers(queue: Queue, redis: ArqRedis, keys: Keys) -> None:
    await accept(queue, "job", "a")
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.cancelled)
        await pubsub.get_message(timeout=5)
        await queue.cancel("job")

        message = await pubsub.get_message(timeout=5)

    assert message is not None
    assert message["data"] == b"job"


async def test_cancelling_takes_what_waits_for_a_retry(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "a")
    await settle(
        queue,
        *(Settlement(lease, "retry", delay_ms=60_000) for lease in await claim(queue)),
    )

    await queue.cancel("job")

    assert await redis.zcard(keys.deferred("a")) == 0


async def test_a_claim_says_when_to_ask_again(queue: Queue) -> None:
    await accept(queue, "job", "a")
    [lease] = await claim(queue)
    await settle(queue, Settlement(lease, "retry", delay_ms=40))
    capacity = Capacity({"a": 1}, {}, 1, 0)

    claimed = await queue.exchange([], capacity)

    assert claimed.leases == []
    assert claimed.again_in_s == pytest.approx(0.04, abs=0.04)

    async def runs_again() -> bool:
        return len((await queue.exchange([], capacity)).leases) == 1

    await eventually(runs_again)


async def test_a_retry_that_became_due_runs_once(queue: Queue, redis: ArqRedis, keys: Keys) -> None:
    await accept(queue, "job", "a")
    [lease] = await claim(queue)
    await settle(queue, Settlement(lease, "retry", delay_ms=60_000))
    await due_now(redis, keys)

    assert len(await claim(queue)) == 1
    assert await claim(queue) == []


async def test_a_claim_knows_when_a_lease_would_end(queue: Queue) -> None:
    await accept(queue, "job", "a")

    claimed = await queue.exchange([], Capacity({"a": 1}, {}, 1, 0))

    assert claimed.again_in_s == pytest.approx(LEASE_S, abs=0.1)


async def test_more_than_one_claim_takes_leaves_no_wait(queue: Queue) -> None:
    await accept(queue, "job", "a" * (CLAIM_AT_MOST + 1))
    capacity = Capacity({"a": 100}, {}, 100, 0)

    first = await queue.exchange([], capacity)
    rest = await queue.exchange([], capacity)

    assert (len(first.leases), first.again_in_s) == (CLAIM_AT_MOST, 0)
    assert len(rest.leases) == 1


async def test_what_a_full_worker_leaves_over_wakes_the_others(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "a" * 9)
    first, *_ = await claim(queue, places=3)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.wake)
        await pubsub.get_message(timeout=5)

        await queue.exchange([Settlement(first, "end", b"{}")], Capacity({"a": 10}, {}, 1, 0))
        woken = await pubsub.get_message(timeout=5)
        await queue.exchange([], Capacity({"a": 10}, {}, 1, 0))
        not_again = await pubsub.get_message(timeout=0.05)

    assert woken is not None
    assert not_again is None


async def test_who_claims_nothing_wakes_the_others(
    queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    await accept(queue, "job", "a" * 9)
    leases = await claim(queue)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.wake)
        await pubsub.get_message(timeout=5)

        await queue.exchange([Settlement(leases[0], "return")], None)

        assert await pubsub.get_message(timeout=5) is not None


async def test_an_idle_queue_asks_for_nothing(queue: Queue) -> None:
    assert (await queue.exchange([], Capacity({"a": 1}, {}, 1, 0))).again_in_s is None


async def test_prefixes_with_odd_characters_work(redis: ArqRedis, keys: Keys) -> None:
    odd = Queue(redis, Keys(f'{keys.prefix}"\\]] é\n:'), lease_s=1)
    await accept(odd, "job", "a")

    assert len(await claim(odd)) == 1
