"""Tests the probes of a provider that does not work, and which of its attempts count."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from arq.connections import ArqRedis
from support.health import (
    ANSWERED_500,
    ANSWERED_503,
    DAY_S,
    LEASE_S,
    REJECTED,
    TIMEOUT,
    UNFINISHED,
    UNREACHABLE,
    Provider,
    use_clock,
)
from support.search_depth import examples

from shared.queue.leases import MAX_WORKER_LOSSES, Settlement
from shared.queue.redis_keys import Keys


@pytest.fixture
def provider(redis: ArqRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Provider:
    use_clock(monkeypatch, keys)
    return Provider(redis, keys, outage_wait_s=DAY_S)


# Probes


async def test_the_only_item_is_probed_again(provider: Provider) -> None:
    await provider.open()
    waits_s = []
    for _ in range(8):
        assert await provider.claim() == []
        waits_s.append(provider.latest.next_round_s)
        [probe] = await provider.next_round()
        await provider.fail(UNREACHABLE, probe)

    assert waits_s == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60], abs=0.5)


async def test_the_next_probe_follows_a_probe_whose_item_finishes(provider: Provider) -> None:
    await provider.open()
    await provider.accept(*"mmm")
    assert await provider.claim() == []
    [probe] = await provider.next_round()

    await provider.fail(ANSWERED_500, probe, delay_s=None)

    assert await provider.claim() == []
    assert provider.latest.next_round_s == pytest.approx(2, abs=0.5)


@pytest.mark.parametrize("free_slots", [1, 100])
async def test_a_worker_that_cannot_claim_a_probe_waits(
    provider: Provider, free_slots: int
) -> None:
    """The lane's limit is reached, or the worker's free slot is reserved for another lane."""
    await provider.accept("m")
    await provider.claim()
    await provider.open()
    for _ in range(200):
        await provider.accept("m")
    await provider.claim()
    await provider.pass_time(5)
    provider.round_count = 0

    limit = 10 if free_slots == 1 else 1
    assert await provider.claim(limit, free_slots=free_slots, running=1) == []

    assert provider.round_count == 1
    assert provider.latest.next_round_s == pytest.approx(1, abs=0.2)


async def test_one_call_at_a_time_finds_out_whether_the_provider_works(
    provider: Provider,
) -> None:
    await provider.open()
    await provider.accept(*"mn" * 10)
    await provider.accept(*"mm", owner="ann", interactive=True)
    assert await provider.claim() == []

    [probe] = await provider.next_round()
    for _ in range(3):
        await provider.pass_time(4)
        assert await provider.claim() == []
    await provider.answer(probe)

    assert not await provider.is_open()
    assert len(await provider.claim()) == 10


async def test_a_server_error_is_probed_every_five_seconds(provider: Provider) -> None:
    await provider.open(ANSWERED_503)
    await provider.accept(*"m" * 100)
    leases = await provider.claim()
    await provider.fail(ANSWERED_500, *leases)
    waits_s = []
    for _ in range(6):
        for probe in await provider.claim():
            await provider.fail(ANSWERED_500, probe)
        assert await provider.claim() == []
        waits_s.append(provider.latest.next_round_s)
        await provider.pass_time((provider.latest.next_round_s or 0) + 0.001)

    assert waits_s == pytest.approx([0.1, 1, 2, 4, 5, 5], abs=0.05)


@pytest.mark.parametrize("jobs", [["mm"], ["m", "m"]], ids=["one job", "two jobs"])
async def test_a_probe_is_not_the_item_of_the_last_one(
    provider: Provider, jobs: Sequence[str]
) -> None:
    for routes in jobs:
        await provider.accept(*routes)
    await provider.fail(UNREACHABLE, *await provider.claim())
    probed = []
    for _ in range(6):
        await provider.claim()
        [probe] = await provider.next_round()
        probed.append(probe.item_id)
        await provider.fail(UNREACHABLE, probe)

    assert all(one != next_one for one, next_one in pairwise(probed))


@pytest.mark.parametrize("jobs", [["m" * 30], ["m"] * 30], ids=["one job", "many jobs"])
async def test_probes_are_random_items(provider: Provider, jobs: Sequence[str]) -> None:
    """So a few requests that always fail are not every probe, and do not pay for an outage."""
    for routes in jobs:
        await provider.accept(*routes)
    [first] = await provider.claim(1)
    await provider.fail(UNREACHABLE, first)
    probed = Counter[str]()
    for _ in range(20):
        await provider.claim()
        [probe] = await provider.next_round()
        probed[probe.item_id] += 1
        await provider.fail(ANSWERED_500, probe)

    assert len(probed) >= 6


async def test_only_a_call_that_began_after_the_opening_closes_the_scope(
    provider: Provider,
) -> None:
    await provider.accept(*"mmm")
    opening, before, also_before = await provider.claim()
    await provider.fail(UNREACHABLE, opening)

    await provider.answer(before)
    await provider.fail(REJECTED, also_before)
    assert await provider.is_open()
    assert await provider.claim() == []
    [probe] = await provider.next_round()
    await provider.fail(REJECTED, probe)  # the provider has read the request: it works

    assert not await provider.is_open()


async def test_an_answered_probe_wakes_the_other_workers(provider: Provider) -> None:
    await provider.open()
    await provider.claim()
    [probe] = await provider.next_round()
    async with provider.redis.pubsub() as messages:
        await messages.subscribe(provider.keys.wake)
        await messages.get_message(timeout=30)

        await provider.round(10, Settlement(probe, "complete", b"{}"))

        message = await messages.get_message(ignore_subscribe_messages=True, timeout=30)
        assert message is not None
        assert message["channel"].decode() == provider.keys.wake


async def test_a_lost_probe_is_followed_by_another(provider: Provider) -> None:
    await provider.open()
    await provider.accept(*"mm")
    await provider.claim()
    [lost] = await provider.next_round()
    assert await provider.claim() == []

    assert await provider.next_round() == []
    [probe] = await provider.next_round()

    waited_us = probe.lease_id.claimed_us - lost.lease_id.claimed_us
    assert waited_us == pytest.approx(LEASE_S * 1e6, abs=1e6)


async def test_a_released_probe_is_followed_by_another(provider: Provider) -> None:
    await provider.open()
    await provider.accept(*"mm")
    await provider.claim()
    [stopped] = await provider.next_round()
    assert await provider.claim() == []

    await provider.release(stopped)

    assert len(await provider.claim()) == 1


@pytest.mark.parametrize("jobs", [1, examples(200, full=10_000)])
async def test_a_worker_beside_a_provider_that_is_down_runs_few_rounds(
    provider: Provider, jobs: int
) -> None:
    await provider.open()
    for _ in range(jobs):
        await provider.accept("m")
    await provider.claim()
    provider.round_count = calls = 0
    elapsed_s = 0.0
    while elapsed_s < 60:
        elapsed_s += provider.latest.next_round_s or 0
        for probe in await provider.next_round():
            calls += 1
            await provider.fail(UNREACHABLE, probe)
            await provider.claim()

    assert calls <= 7
    assert provider.round_count <= 30


async def test_a_quarantined_item_is_the_only_probe(provider: Provider) -> None:
    await provider.accept("m", job_id="loses")
    for _ in range(MAX_WORKER_LOSSES - 1):
        await provider.claim()
        await provider.pass_time(LEASE_S + 1)
    await provider.accept(*"mmm")
    quarantined, opening, *others = await provider.claim()
    await provider.fail(UNREACHABLE, opening)
    await provider.release(quarantined, *others)
    assert await provider.claim() == []

    [probe] = await provider.next_round()

    assert probe.quarantined
    assert await provider.claim(running=1) == []


# Attempts


async def test_no_attempt_counts_while_the_provider_does_not_work(provider: Provider) -> None:
    await provider.accept(*"m" * 8)
    leases = await provider.claim()
    await provider.fail(TIMEOUT, *leases[:5])  # the fifth one opens the account
    await provider.fail(ANSWERED_500, *leases[5:], delay_s=None)
    await provider.pass_time(0.1)
    for _ in range(30):
        for probe in await provider.claim():
            await provider.fail(ANSWERED_503, probe, delay_s=None)
        await provider.pass_time(60)

    [probe] = await provider.claim()
    await provider.answer(probe)
    leases = [probe, *await provider.claim()]
    counted = {lease.item_id.request_index: lease.attempts for lease in leases}
    assert counted == {index: int(index < 5) for index in range(8)}
    assert sum(lease.uncounted for lease in leases) == 3 + 30


async def test_a_model_that_fails_is_not_the_probe_of_the_account(provider: Provider) -> None:
    """If another model answers, only the model that fails waits."""
    for _ in range(10):
        await provider.accept("m")
    await provider.fail(ANSWERED_503, *await provider.claim())
    assert await provider.is_open()
    await provider.accept("n", job_id="other")

    [probe] = await provider.claim()
    assert probe.job_id == "other"
    await provider.fail(ANSWERED_503, probe)
    await provider.accept("n", job_id="third")
    while not (leases := await provider.claim()):
        await provider.pass_time(0.1)
    [probe] = leases
    assert probe.job_id in {"other", "third"}
    await provider.answer(probe)
    assert (await provider.is_open("m"), await provider.is_open()) == (True, False)


async def test_a_500_of_a_probe_counts(provider: Provider) -> None:
    """A request that always fails with 500 must end, even if it is the only one."""
    await provider.open(UNREACHABLE)
    for attempt in range(3):
        await provider.claim()
        [probe] = await provider.next_round()
        assert probe.attempts == attempt
        await provider.fail(ANSWERED_500, probe)
    await provider.claim()
    [probe] = await provider.next_round()
    await provider.fail(ANSWERED_500, probe, delay_s=None)

    [result] = (await provider.results("opens")).values()
    assert result["error_code"] == "provider_error"


async def test_an_answer_that_is_not_whole_counts_also_for_a_probe(provider: Provider) -> None:
    await provider.open()
    await provider.claim()
    [probe] = await provider.next_round()

    await provider.fail(UNFINISHED, probe)
    await provider.claim()

    assert provider.latest.next_round_s == pytest.approx(2, abs=0.5)
    [probe] = await provider.next_round()
    assert (probe.attempts, probe.uncounted) == (1, 1)


async def test_a_poisoned_request_ends_beside_good_ones(provider: Provider) -> None:
    await provider.accept("m", job_id="poisoned")
    await provider.accept(*"m" * 20)
    calls = 0
    for _ in range(8):
        for lease in await provider.claim(3):
            if lease.job_id == "poisoned":
                calls += 1
                await provider.fail(ANSWERED_503, lease, delay_s=0 if calls < 4 else None)
            else:
                await provider.answer(lease)

    assert calls == 4
    assert len(await provider.results("poisoned")) == 1
    assert not await provider.is_open()
