"""Tests how jobs are accepted, refused, completed and removed."""

import time
from collections.abc import Mapping

import pytest
from arq.connections import ArqRedis
from redis.exceptions import ConnectionError as RedisConnectionError
from support.claims import accept, claim, commit, finish, settle

from shared.jobs.staging import STAGING_TTL_S, Staging
from shared.jobs.store import Store
from shared.jobs.submission import QueueFull, UploadExpired
from shared.queue.claims import Queue
from shared.queue.leases import Settlement
from shared.queue.redis_keys import META_ITEMS, Keys


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
