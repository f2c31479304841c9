"""Tests the order in a lane: the shares of owners, of interactive and bulk work, and of jobs."""

import json
from collections import Counter
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis
from support.authentication import ANN, API_KEYS, BOB
from support.claims import accept, claim, commit, finish
from support.jobs import lines, results, upload
from support.ledger import ledger
from support.search_depth import examples
from support.stack import Stack, Start, chat

from cli.simulator.chat import item_of
from shared.jobs.staging import MAX_ROUTES
from shared.jobs.store import Store
from shared.providers import ModelLimits
from shared.queue.capacity import Capacity, Limits, Rules
from shared.queue.claims import Queue
from shared.queue.leases import Lease
from shared.queue.operator_commands import Operator
from shared.queue.redis_keys import SHARED_ROUTE, Keys
from shared.queue.setting_defaults import INTERACTIVE_WEIGHT

# Counting lines would double its time, and other tests run the same lines.
pytestmark = pytest.mark.no_cover

MANY = 5000
MAX_LEAD = 6  # items by which one owner may be ahead of another: see QUANTUM in fair_share.lua


async def serve(queue: Queue, count: int, *, at_once: int = 1) -> list[Lease]:
    """Runs `count` items, `at_once` at a time. Returns their leases in the order of the claims."""
    served: list[Lease] = []
    while len(served) < count:
        leases = await claim(queue, a=min(at_once, count - len(served)))
        await finish(queue, leases)
        served += leases
        assert leases
    return served


def by_job(leases: Sequence[Lease]) -> Counter[str]:
    return Counter(lease.job_id for lease in leases)


async def bulk(store: Store, job_id: str, count: int = MANY, owner: str = "") -> None:
    await accept(store, job_id, "a" * count, owner=owner, max_depth=10 * MANY)


async def interactive(store: Store, job_id: str, count: int, owner: str = "") -> None:
    await accept(store, job_id, "a" * count, owner=owner, interactive=True, max_depth=10 * MANY)


@pytest.mark.parametrize("at_once", [1, 3, 10, 50])
async def test_owners_with_backlogs_have_equal_shares_at_every_moment(
    queue: Queue, store: Store, at_once: int
) -> None:
    for owner in ("ann", "bob", "eve"):
        await bulk(store, owner, owner=owner)

    served = await serve(queue, 600, at_once=at_once)

    for moment in range(0, 600, at_once):
        counts = by_job(served[:moment])
        apart = max(counts.values(), default=0) - min(counts.values(), default=0)
        assert apart <= (1 if at_once == 1 else MAX_LEAD)
    assert set(by_job(served).values()) == {200} or at_once > 1


async def test_many_jobs_do_not_increase_the_share_of_an_owner(queue: Queue, store: Store) -> None:
    await bulk(store, "one", owner="ann")
    for number in range(50):
        await bulk(store, f"many-{number}", 20, owner="bob")

    served = await serve(queue, 200)

    assert by_job(served)["one"] == 100


async def test_jobs_of_an_owner_have_equal_shares(queue: Queue, store: Store) -> None:
    for number in range(4):
        await bulk(store, f"job-{number}")

    served = await serve(queue, 100)

    assert set(by_job(served).values()) == {25}


async def test_many_models_do_not_increase_the_share_of_a_job(queue: Queue, store: Store) -> None:
    await bulk(store, "one")
    async with store.staging("many") as staging:
        for index in range(1000):
            await staging.add("a", b"", (None, "a", f"model-{index % 50}"))
        await commit(staging)

    served = await serve(queue, 200)

    assert by_job(served) == {"one": 100, "many": 100}


@pytest.mark.parametrize("at_once", [1, 7, 50])
async def test_the_items_of_a_job_keep_their_order_over_all_models(
    queue: Queue, store: Store, at_once: int
) -> None:
    async with store.staging("job") as staging:
        for index in range(300):
            await staging.add("a", b"", (None, "a", f"M{index * 7 % 11}"))
        await commit(staging)

    served = await serve(queue, 300, at_once=at_once)

    assert [lease.item_id.request_index for lease in served] == list(range(300))


async def test_a_job_has_a_bounded_number_of_routes(
    queue: Queue, store: Store, redis: Redis, keys: Keys
) -> None:
    """Models are chosen by users, so that a job may name as many as it has requests."""
    items = examples(3000, full=100_000)
    async with store.staging("job") as staging:
        for index in range(items):
            await staging.add("a", b"", (None, "a", f"model-{index}"))
        await redis.config_resetstat()
        await commit(staging)

    routes = json.loads(await redis.hget(keys.job("job"), "routes"))["a"]  # type: ignore[misc]
    assert (len(routes), routes[0], routes[-1]) == (MAX_ROUTES + 1, "model-0", SHARED_ROUTE)
    served = await serve(queue, items, at_once=50)
    assert sorted(lease.item_id.request_index for lease in served) == list(range(items))
    # A round of 50 items of as many models costs some commands an item, whatever the job's size.
    statistics = await redis.info("commandstats")
    commands = sum(command["calls"] for command in statistics.values())
    assert commands / items < 20


async def test_a_model_with_a_limit_has_a_queue_of_its_own_in_a_job_of_many_models(
    redis: Redis, keys: Keys
) -> None:
    limits = {"a": (ModelLimits("slow", 1), ModelLimits("q-*", 1))}
    store = Store(redis, keys, model_limits=limits)
    await Operator(redis, keys).set_limits("a/set", {"rpm": 60})
    names = [*(f"model-{i}" for i in range(150)), "Slow", "set", "q-1", "q-2", "last", "q-1"]
    async with store.staging("job") as staging:
        for name in names:
            await staging.add("a", b"", (None, "a", name))
        await commit(staging)

    routes = json.loads(await redis.hget(keys.job("job"), "routes"))["a"]  # type: ignore[misc]
    assert routes[MAX_ROUTES - 3 :] == [SHARED_ROUTE, "slow", "set", "q-*"]
    rules = {"a": Rules(models=limits["a"])}
    capacity = Capacity(Limits({"a": 500}, rules), {}, 500)
    claimed = set()
    queue = Queue(redis, keys, lease_s=60)
    while leases := (await queue.settle_and_claim([], capacity)).leases:
        claimed |= {names[lease.item_id.request_index] for lease in leases}
    assert claimed == set(names) - {"q-2"}  # the limits hold, and delay no other model


async def test_the_items_of_a_job_keep_their_order_beside_another_job(
    queue: Queue, store: Store
) -> None:
    await bulk(store, "one", 100)
    await bulk(store, "two", 100)

    served = await serve(queue, 200, at_once=7)

    for job_id in ("one", "two"):
        payloads = [lease.payload for lease in served if lease.job_id == job_id]
        assert payloads == [f"{job_id} {number}".encode() for number in range(100)]


async def test_interactive_work_gets_its_weight_and_bulk_work_the_rest(
    queue: Queue, store: Store
) -> None:
    await bulk(store, "bulk")
    await serve(queue, 50)
    await interactive(store, "interactive", 1000)

    served = await serve(queue, 500)

    assert by_job(served)["bulk"] == pytest.approx(500 / (INTERACTIVE_WEIGHT + 1), abs=2)
    for moment in range(0, 500, 10):  # the shares hold in every ten items
        counts = by_job(served[moment : moment + 10])
        assert counts["interactive"] == pytest.approx(8, abs=1)


async def test_interactive_work_does_not_increase_the_share_of_an_owner(
    queue: Queue, store: Store
) -> None:
    await bulk(store, "ann", owner="ann")
    await interactive(store, "bob", 1000, owner="bob")

    assert by_job(await serve(queue, 200)) == {"ann": 100, "bob": 100}


@pytest.mark.parametrize("served_before", [1, 100, 2000])
async def test_an_idle_owner_gets_no_larger_share_later(
    queue: Queue, store: Store, served_before: int
) -> None:
    await bulk(store, "ann", owner="ann")
    await serve(queue, served_before)
    await bulk(store, "bob", owner="bob")

    assert by_job(await serve(queue, 200)) == {"ann": 100, "bob": 100}


async def test_an_owner_that_joins_again_has_neither_advantage_nor_disadvantage(
    queue: Queue, store: Store
) -> None:
    await bulk(store, "ann", owner="ann")
    for number in range(10):  # bob submits one item, and leaves the tree when it has run
        await bulk(store, f"bob-{number}", 1, owner="bob")
        served = by_job(await serve(queue, 20))
        assert served == {"ann": 19, f"bob-{number}": 1}
    await bulk(store, "bob", owner="bob")

    assert by_job(await serve(queue, 200))["bob"] == pytest.approx(100, abs=1)


async def test_nothing_waits_while_a_slot_is_free(queue: Queue, store: Store) -> None:
    await bulk(store, "ann", 30, owner="ann")
    await bulk(store, "bob", 3, owner="bob")

    leases = await claim(queue, a=20)

    assert by_job(leases) == {"ann": 17, "bob": 3}


async def started_items(stack: Stack) -> list[str]:
    """Returns the items in the order in which their calls started."""
    return [call.item for call in sorted(await ledger(stack), key=lambda call: call.start_ms)]


async def test_a_batch_does_not_wait_behind_a_large_job(stack: Start) -> None:
    deployment = await stack(workers=2, MAX_CONCURRENT_REQUESTS="10")
    await deployment.simulate(latency_ms=50)
    location = await upload(deployment.api, lines(f"bulk {n}" for n in range(20_000)))
    await deployment.in_flight(10)

    for number in range(5):
        contents = [f"batch {number} {n}" for n in range(5)]
        answer = await deployment.batch([chat(text) for text in contents])

        assert answer.json()["successful"] == 5
        items = await started_items(deployment)
        positions = [items.index(item_of(text)) for text in contents]
        # Every fifth item is bulk work, and as many calls as run at once may start earlier or later
        # than their claims.
        assert max(positions) - min(positions) <= 5 + 10
    await deployment.api.delete(location)


async def test_two_owners_share_a_provider(stack: Start) -> None:
    deployment = await stack(workers=3, key=ANN, API_KEYS=API_KEYS, MAX_CONCURRENT_REQUESTS="10")
    bob = deployment.client(BOB)
    await deployment.simulate(latency_ms=10, latency_spread_ms=10)
    await upload(deployment.api, lines(f"ann {n}" for n in range(3000)))
    await deployment.in_flight(10)
    contents = [f"bob {n}" for n in range(1000)]
    location = await upload(bob, lines(contents))

    await results(bob, location)

    bobs = {item_of(text) for text in contents}
    items = [item in bobs for item in await started_items(deployment)]
    first = items.index(True)
    for start in range(first, first + 1600, 400):
        assert sum(items[start : start + 400]) == pytest.approx(200, abs=10)  # 5 %
