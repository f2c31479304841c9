"""Tests which deployment serves an item: shares by weight, limits, and deployments that fail."""

from collections import Counter
from collections.abc import Sequence

import pytest
from arq.connections import ArqRedis
from support.claims import accept

from shared.jobs.store import Store
from shared.providers.lanes import alias_lane
from shared.queue.capacity import Capacity, Limits, ServedBy
from shared.queue.claims import Queue
from shared.queue.leases import MAX_WORKER_LOSSES, Fault, Lease, Settlement, SettlementOutcome
from shared.queue.operator_commands import Operator
from shared.queue.redis_keys import Keys
from shared.queue.verdict import Verdict

FAST = alias_lane("fast one")
THREE_TO_ONE = [ServedBy("a", "big/M", 3), ServedBy("b", "Small", 1)]
UNREACHABLE = Fault(
    Verdict.UNREACHABLE, "could not be reached", "connection_error", wait_s=600
)  # no probe during a test


class Pool:
    """Claims and settles items of lanes with several deployments."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.limits = Limits({FAST: 1, "a": 8, "b": 8}, served_by={FAST: THREE_TO_ONE})
        self.running: list[Lease] = []

    async def claim(self, free_slots: int = 100) -> list[Lease]:
        running = Counter(lease.lane for lease in self.running)
        capacity = Capacity(self.limits, running, free_slots)
        claimed = (await self.queue.settle_and_claim([], capacity)).leases
        self.running += claimed
        return claimed

    async def settle(
        self, leases: Sequence[Lease], fault: Fault | None = None, delay_s: float | None = 0
    ) -> None:
        outcome: SettlementOutcome = "retry" if fault else "complete"
        await self.queue.settle_and_claim(
            [Settlement(lease, outcome, b"{}", delay_s=delay_s, fault=fault) for lease in leases],
            Capacity(self.limits, {}, 0),
        )
        self.running = [lease for lease in self.running if lease not in leases]

    async def serve(self, count: int, *, at_once: int) -> Counter[str]:
        """Serves items, up to `at_once` at the same time. Returns their number by account."""
        served = Counter[str]()
        while served.total() < count:
            leases = await self.claim(min(at_once, count - served.total()))
            assert leases
            served.update(lease.account for lease in leases)
            await self.settle(leases)
        return served


@pytest.fixture
def pool(queue: Queue) -> Pool:
    return Pool(queue)


@pytest.mark.parametrize("at_once", [1, 3, 7])
async def test_deployments_have_shares_by_weight(pool: Pool, store: Store, at_once: int) -> None:
    await accept(store, "job", [FAST] * 400)

    served = await pool.serve(400, at_once=at_once)

    assert served["a"] == pytest.approx(300, abs=4)
    assert served["b"] == pytest.approx(100, abs=4)


async def test_a_lease_names_the_account_and_the_model(pool: Pool, store: Store) -> None:
    await accept(store, "job", [FAST] * 16)

    leases = await pool.claim()

    assert {(lease.account, lease.model) for lease in leases} == {("a", "big/M"), ("b", "Small")}
    assert {lease.lane for lease in leases} == {FAST}


async def test_the_limit_of_a_provider_holds_over_its_lane_and_its_aliases(
    pool: Pool, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "alias", [FAST] * 50)
    await accept(store, "direct", ["a"] * 50)

    while await pool.claim(40):
        for provider in ("a", "b"):
            assert await redis.zcard(keys.leases(provider)) <= 8
    assert len(pool.running) == 16

    await pool.settle(pool.running[:6])
    await pool.claim()
    assert len(pool.running) == 16


async def test_a_deployment_that_dies_loses_nothing_and_comes_back_with_its_share(
    pool: Pool, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", [FAST] * 500)
    leases = await pool.claim()
    await pool.settle([lease for lease in leases if lease.account == "a"], UNREACHABLE)
    await pool.settle([lease for lease in leases if lease.account == "b"])

    during = await pool.serve(200, at_once=4)
    assert during == {"b": 200}

    await redis.delete(keys.health("a"))  # as if a probe had been answered
    after = await pool.serve(200, at_once=4)
    assert after["a"] == pytest.approx(150, abs=8)
    assert (await store.snapshot("job", "")).failed == 0  # type: ignore[union-attr]


async def test_items_wait_if_no_deployment_works(
    pool: Pool, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", [FAST] * 30)
    await pool.settle(await pool.claim(), UNREACHABLE)

    assert await pool.claim() == []
    assert await redis.zcard(keys.waiting(FAST, "m")) == 1

    for account in ("a", "b"):
        await redis.delete(keys.health(account))
    await redis.zadd(keys.blocked(FAST), {"m": 0})
    assert len(await pool.claim()) == 16


async def test_the_answer_of_a_probe_wakes_the_lanes_of_the_account(
    pool: Pool, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", [FAST] * 30)
    await pool.settle(await pool.claim(), UNREACHABLE)
    await pool.claim()
    assert await Operator(redis, keys).resume("a") == ["a"]

    [probe] = await pool.claim()
    assert (probe.account, await pool.claim()) == ("a", [])
    await pool.settle([probe])

    assert {lease.account for lease in await pool.claim()} == {"a"}
    assert len(pool.running) == 8


async def test_a_lost_worker_frees_both_places_of_a_lease(
    pool: Pool, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", [FAST] * 4)
    leases = await pool.claim()
    for lane in {FAST, *(lease.account for lease in leases)}:
        for lease in await redis.zrange(keys.leases(lane), 0, -1):
            await redis.zadd(keys.leases(lane), {lease: 1})
    pool.running.clear()

    again = await pool.claim()

    assert sorted(lease.item_id for lease in again) == sorted(lease.item_id for lease in leases)
    assert {lease.worker_losses for lease in again} == {1}
    assert MAX_WORKER_LOSSES > 1
    held = [lease for lane in "ab" for lease in await redis.zrange(keys.leases(lane), 0, -1)]
    assert sorted(held) == sorted(await redis.zrange(keys.leases(FAST), 0, -1))


async def test_a_quarantined_item_gives_up_if_no_deployment_works(
    store: Store, redis: ArqRedis, keys: Keys
) -> None:
    pool = Pool(Queue(redis, keys, lease_s=60, outage_wait_s=0))
    await accept(store, "job", [FAST])
    for _ in range(MAX_WORKER_LOSSES - 2):
        [lease] = await pool.claim()
        pool.running.clear()
        await redis.zadd(keys.leases(FAST), {lease.lease_id: 1})
    [lease] = await pool.claim()
    await accept(store, "direct", ["a", "b"])
    await pool.settle(await pool.claim(), UNREACHABLE)
    pool.running.clear()
    await redis.zadd(keys.leases(FAST), {lease.lease_id: 1})  # one more loss: it is quarantined

    for _ in range(3):
        await pool.claim()

    snapshot = await store.snapshot("job", "")
    assert snapshot is not None
    assert (snapshot.finished, snapshot.failed) == (1, 1)


async def test_renewing_keeps_both_places_of_a_lease(
    pool: Pool, queue: Queue, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "job", [FAST])
    [lease] = await pool.claim()
    for lane in (FAST, lease.account):
        await redis.zadd(keys.leases(lane), {lease.lease_id: 1})

    assert await queue.renew("worker", [lease]) == set()

    for lane in (FAST, lease.account):
        assert (await redis.zscore(keys.leases(lane), lease.lease_id) or 0) > 1


async def test_the_keys_of_a_provider_share_its_limit_and_fail_alone(
    pool: Pool, store: Store, redis: ArqRedis, keys: Keys
) -> None:
    pool.limits = Limits({"a": 6}, served_by={"a": [ServedBy("a"), ServedBy("a#2")]})
    await accept(store, "job", ["a"] * 60)

    leases = await pool.claim()
    assert Counter(lease.account for lease in leases) == {"a": 3, "a#2": 3}
    refused = Fault(Verdict.UNAUTHORIZED, "answered 401", "unauthorized", status_code=401)
    await pool.settle([lease for lease in leases if lease.account == "a#2"], refused)
    await pool.settle([lease for lease in leases if lease.account == "a"])

    assert await pool.serve(30, at_once=6) == {"a": 30}
    assert await redis.hlen(keys.health("a#2")) == 1  # type: ignore[misc]


async def test_names_of_models_with_any_characters(pool: Pool, store: Store) -> None:
    pool.limits = Limits({FAST: 1, "a": 8}, served_by={FAST: [ServedBy("a", "odd|na~me@%7C é")]})
    await accept(store, "job", [FAST] * 5)

    leases = await pool.claim()
    await pool.settle(leases)

    assert {lease.model for lease in leases} == {"odd|na~me@%7C é"}
    assert (await store.snapshot("job", "")).finished == 5  # type: ignore[union-attr]
