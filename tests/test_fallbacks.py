"""Tests how items in the queue move on to other routes that can serve them."""

import json
from dataclasses import replace

import pytest
from arq.connections import ArqRedis
from support.claims import claim, commit, rate_limited, settle
from support.fallbacks import (
    ABSENT,
    BROKEN,
    FILTERED,
    INVALID,
    LIMITS,
    NOT_FOUND,
    QUOTA,
    UNFINISHED,
    UNREACHABLE,
    accept,
    refuse,
    served,
)
from support.in_process import running_api
from support.jobs import NDJSON, ndjson
from support.stack import chat

from shared.jobs.staging import MAX_ROUTES, MAX_SHARED_ROUTES
from shared.jobs.store import Store
from shared.providers.lanes import alias_lane
from shared.queue.capacity import Capacity, Limits, ServedBy
from shared.queue.claims import Queue
from shared.queue.fallback_chain import fallback_chain
from shared.queue.leases import Fault, Lease, Settlement
from shared.queue.redis_keys import Keys
from shared.queue.verdict import Verdict
from shared.settings import Settings


@pytest.mark.parametrize("fault", [QUOTA, NOT_FOUND])
async def test_an_item_moves_on_at_once_if_its_route_cannot_serve_it(
    queue: Queue, store: Store, fault: Fault
) -> None:
    await accept(store)
    await refuse(queue, await served(queue), fault)

    moved = await served(queue)

    assert {(lease.lane, lease.model, lease.attempts) for lease in moved} == {("b", "Org/N", 0)}
    assert [json.loads(lease.tried) for lease in moved] == [
        [{"model": "a/m", "error_code": fault.code, "attempts": 1}]
    ] * 3
    assert [lease.item_id.request_index for lease in moved] == [0, 1, 2]


async def test_each_route_is_tried_once_and_the_last_failure_is_the_result(
    queue: Queue, store: Store
) -> None:
    await accept(store, 1)
    for lane in ("a", "b", "c"):
        [lease] = await served(queue)
        assert lease.lane == lane
        await refuse(queue, [lease], NOT_FOUND)

    assert await served(queue) == []
    snapshot = await store.snapshot("job", "")
    assert snapshot is not None
    assert (snapshot.finished, snapshot.failed) == (1, 1)


async def test_an_item_moves_to_a_provider_with_several_keys(queue: Queue, store: Store) -> None:
    await accept(store, 1)
    await refuse(queue, await served(queue), NOT_FOUND)
    keys_of_b = [ServedBy("b"), ServedBy("b#2")]
    capacity = Capacity(Limits(LIMITS, served_by={"b": keys_of_b}), {}, 9)

    [lease] = (await queue.settle_and_claim([], capacity)).leases

    assert (lease.account, lease.model) == ("b", "Org/N")
    failure = Settlement(lease, "fail", b'{"error": "x"}', fault=NOT_FOUND)
    [lease] = (await queue.settle_and_claim([failure], capacity)).leases
    assert [step["model"] for step in json.loads(lease.tried)] == ["a/m", "b/org/n"]


@pytest.mark.parametrize("others", [[("c", "o")], []])
async def test_a_deployment_of_an_alias_that_was_tried_is_not_tried_again(
    queue: Queue, store: Store, others: list[tuple[str, str]]
) -> None:
    """A fallback that was tried is skipped, and so is the tried deployment of an alias."""
    fast = alias_lane("fast")
    served_by = {fast: [ServedBy("a", "M"), ServedBy("b", "N"), ServedBy("b#2", "N")]}
    if not others:
        served_by[fast] = served_by[fast][:1]
    steps = [(fast, "fast"), ("a", "M"), ("b", "n"), *others]
    chain = fallback_chain(steps, after_s=60, content_filtered=False)
    async with store.staging("job") as staging:
        await staging.add("a", b"", (None, "a", "m"), chain)
        await commit(staging)
    capacity = Capacity(Limits({fast: 1, **LIMITS}, served_by=served_by), {}, 9)

    called = []
    [lease] = (await queue.settle_and_claim([], capacity)).leases
    while True:
        called.append(f"{lease.account}/{lease.model or 'm'}")
        failure = Settlement(lease, "fail", b'{"error": "x"}', fault=NOT_FOUND)
        if not (leases := (await queue.settle_and_claim([failure], capacity)).leases):
            break
        [lease] = leases

    assert called == ["a/m", *(["b/N", "c/o"] if others else ["b/n"])]
    snapshot = await store.snapshot("job", "")
    assert snapshot is not None
    assert (snapshot.finished, snapshot.failed) == (1, 1)


async def test_an_item_that_has_waited_for_an_alias_names_the_alias(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    lane = alias_lane("fast one")
    limits = Limits({lane: 1, "a": 9}, served_by={lane: [ServedBy("a", "M"), ServedBy("a#2", "M")]})
    chain = fallback_chain([("c", "o")], after_s=0, content_filtered=False)
    async with store.staging("job") as staging:
        for text in (chain, chain, ""):
            await staging.add(lane, b"", (None, lane, "fast one"), text)
        await commit(staging, interactive=True)
    refused = replace(QUOTA, verdict=Verdict.UNAUTHORIZED, reason="answered 401")
    capacity = Capacity(limits, {}, 9)
    for _ in range(3):
        claimed = await queue.settle_and_claim([], capacity)
        failures = [
            Settlement(lease, "retry", b'{"error": "x"}', delay_s=0, fault=refused)
            for lease in claimed.leases
        ]
        await queue.settle_and_claim(failures, capacity)

    moved = await redis.hvals(keys.moved("job"))  # type: ignore[misc]
    [result] = await redis.hvals(keys.results("job"))  # type: ignore[misc]

    assert {step["model"] for steps in moved for step in json.loads(steps)} <= {"fast one", "a/m"}
    assert b"@" not in result


async def test_an_item_moves_over_several_models_of_one_provider(
    queue: Queue, store: Store
) -> None:
    models = ["c", "b", "a", "d"]
    chain = fallback_chain([("b", m) for m in models], after_s=60, content_filtered=False)
    async with store.staging("job") as staging:
        await staging.add("b", b"", (None, "b", "m"), chain)
        await commit(staging)

    seen: list[str] = []
    while leases := await served(queue):
        seen += [lease.model for lease in leases]
        await refuse(queue, leases, NOT_FOUND)

    assert seen == ["", *models]


async def test_retries_that_are_used_up_move_an_item_on(queue: Queue, store: Store) -> None:
    await accept(store, 1)
    await refuse(queue, await served(queue), BROKEN)
    [second] = await served(queue)
    assert (second.lane, second.attempts) == ("a", 1)
    await refuse(queue, [second], BROKEN, last=True)

    [moved] = await served(queue)

    assert (moved.lane, moved.attempts, moved.uncounted) == ("b", 0, 2)
    assert json.loads(moved.tried)[0]["attempts"] == 2


@pytest.mark.parametrize(
    ("fault", "filtered", "lane"),
    [(FILTERED, False, None), (FILTERED, True, "b"), (INVALID, True, None)],
)
async def test_a_refused_request_moves_on_only_if_asked_for(
    queue: Queue,
    store: Store,
    fault: Fault,
    lane: str | None,
    *,
    filtered: bool,
) -> None:
    await accept(store, 1, filtered=filtered)

    await refuse(queue, await served(queue), fault)

    assert [lease.lane for lease in await served(queue)] == ([lane] if lane else [])


@pytest.mark.parametrize(
    ("fault", "lane"),
    [
        (BROKEN, "b"),
        (UNREACHABLE, "b"),
        (UNFINISHED, "b"),
        (rate_limited(60), "b"),
        (INVALID, None),
        (FILTERED, None),
    ],
)
async def test_an_item_without_retries_moves_on_after_its_call(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys, fault: Fault, lane: str | None
) -> None:
    """With MAX_RETRIES=0, a fault says nothing about the provider's health."""
    await accept(store, 1)
    [lease] = await served(queue)

    fault = replace(fault, ignored=True)
    await settle(queue, Settlement(lease, "fail", b'{"error": "x"}', fault=fault))

    assert [lease.lane for lease in await served(queue)] == ([lane] if lane else [])
    assert await redis.exists(keys.health("a")) == 0


async def test_an_item_moves_on_from_a_provider_without_configuration(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, 2)
    leases = await served(queue)
    failures = [Settlement(lease, "fail", b'{"error": "x"}', fault=ABSENT) for lease in leases]

    await settle(queue, *failures)

    moved = await served(queue)
    assert [(lease.lane, lease.uncounted) for lease in moved] == [("b", 0)] * 2
    assert json.loads(moved[0].tried) == [
        {"model": "a/m", "error_code": "provider_not_configured", "attempts": 0}
    ]
    assert await redis.exists(keys.health("a")) == 0


async def test_models_that_share_a_queue_move_to_their_own_fallbacks(
    queue: Queue, store: Store
) -> None:
    """Only the first models of a job have queues of their own."""
    async with store.staging("job") as staging:
        for index in range(MAX_ROUTES + 6):
            chain = fallback_chain([("b", f"F{index % 2}")], after_s=60, content_filtered=False)
            await staging.add("a", b"", (None, "a", f"M{index}"), chain if index % 3 else "")
        await commit(staging)
    leases: list[Lease] = []
    while found := await claim(queue, a=1000, b=1000):
        leases += found
    await refuse(queue, leases, NOT_FOUND)

    moved: list[Lease] = []
    while found := await claim(queue, a=1000, b=1000):
        moved += found

    assert sorted(
        (lease.item_id.request_index, lease.model, json.loads(lease.tried)[0]["model"])
        for lease in moved
    ) == [
        (i, f"F{i % 2}", f"a/{'m' if i < MAX_ROUTES else 'M'}{i}")
        for i in range(MAX_ROUTES + 6)
        if i % 3
    ]


async def test_a_job_with_too_many_lists_of_fallbacks_is_refused(settings: Settings) -> None:
    requests = [
        chat("hello", model=f"m{index}") | {"models": [f"ollama/m{index}"]}
        for index in range(MAX_ROUTES + MAX_SHARED_ROUTES + 1)
    ]
    async with running_api(settings) as api:
        refused = await api.post("/jobs", content=ndjson(requests), headers=NDJSON)
        accepted = await api.post("/jobs", content=ndjson(requests[1:]), headers=NDJSON)

    assert (refused.status_code, accepted.status_code) == (422, 202)
    assert refused.json()["detail"] == [
        {
            "type": "value_error",
            "loc": ["body"],
            "msg": "the job has more than 100 models, and the models of openrouter after the first"
            " 100 have more than 20 different lists of fallbacks; nothing was accepted. Give these"
            " models the same fallbacks, or send several jobs",
        }
    ]


async def test_items_wait_for_a_provider_that_does_not_work_before_they_move(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, 30, after_s=3600)
    await refuse(queue, await served(queue), UNREACHABLE)

    assert await served(queue) == []

    [(_, until_ms)] = await redis.zrange(keys.waiting("a", ""), 0, -1, withscores=True)
    seconds, _ = await redis.time()
    assert until_ms / 1000 - seconds == pytest.approx(3600, abs=30)


async def test_items_that_have_waited_move_on_together(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, 30, after_s=0)
    await refuse(queue, await served(queue), UNREACHABLE)

    moved: list[Lease] = []
    for _ in range(5):
        moved += await served(queue)

    assert {lease.lane for lease in moved} == {"b"}
    assert len(moved) == 10
    assert await redis.hgetall(keys.depth("a")) == {}  # type: ignore[misc]
    assert await redis.hgetall(keys.depth("b")) == {b"": b"20"}  # type: ignore[misc]


async def test_a_pause_moves_nothing(queue: Queue, store: Store) -> None:
    await accept(store, 1)

    await refuse(queue, await served(queue), rate_limited(60))

    assert await served(queue) == []


async def test_cancelling_ends_items_on_every_route(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, 12)
    await refuse(queue, (await served(queue))[:4], NOT_FOUND)

    assert await store.cancel("job", "")

    for lane in ("a", "b"):
        assert await redis.hgetall(keys.depth(lane)) == {}  # type: ignore[misc]
        assert [key async for key in redis.scan_iter(keys.queue(lane, "job", "*"))] == []
    assert await redis.ttl(keys.moved("job")) > 0


async def test_a_job_with_items_on_the_fallback_keeps_both_queues(
    queue: Queue, store: Store
) -> None:
    chain = fallback_chain([("b", "x")], after_s=60, content_filtered=False)
    async with store.staging("job") as staging:
        for index in range(20):
            await staging.add("b", f"{index}".encode(), (None, "b", "own"))
        await staging.add("a", b"20", (None, "a", "m"), chain)
        await commit(staging)
    leases = await served(queue)
    await refuse(queue, [lease for lease in leases if lease.lane == "a"], NOT_FOUND)

    seen = {lease.item_id for lease in leases if lease.lane == "b"}
    running = [lease for lease in leases if lease.lane == "b"]
    while running:
        await settle(queue, *(Settlement(lease, "complete", b"{}") for lease in running))
        running = await served(queue)
        seen |= {lease.item_id for lease in running}

    assert len(seen) == 21


async def test_a_model_with_control_characters_does_not_name_fallbacks(
    queue: Queue, store: Store
) -> None:
    chain = fallback_chain([("b", "N\x1fc\x1eo")], after_s=60, content_filtered=False)
    async with store.staging("job") as staging:
        await staging.add("a", b"", (None, "a", "m\x1f0\x1fb\x1ex"))
        await staging.add("a", b"", (None, "a", "\x1dm"), chain)
        await commit(staging)
    seen: list[tuple[str, str]] = []

    while leases := await served(queue):
        seen += [(lease.lane, lease.model) for lease in leases]
        await refuse(queue, leases, NOT_FOUND)

    assert seen == [("a", ""), ("a", ""), ("b", "N\ufffdc\ufffdo")]


async def test_the_queue_reports_an_item_that_could_have_moved_on(
    queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    """The worker does not know whether the item finishes, so that it does not count the item."""
    await accept(store, 2)
    leases = await served(queue)
    await redis.hset(keys.job("job"), "deltas", "1")  # type: ignore[misc]
    settlement = Settlement(leases[0], "fail", b'{"error": "x"}', fault=NOT_FOUND)

    claimed = await queue.settle_and_claim([settlement], None)

    [failed] = claimed.failed
    assert (failed.lane, failed.model, failed.error_code) == ("a", "m", "model_not_found")
