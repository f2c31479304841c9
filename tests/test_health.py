"""Tests the health of a provider in the claim: see lua/lib/health.lua and lua/lib/waiting.lua."""

import pytest
from arq.connections import ArqRedis
from support.health import ANSWERED_500, UNREACHABLE, Provider, refused, use_clock

from shared.queue.keys import Keys

LEASE_S = 15.0
DAY_S = 86_400.0


@pytest.fixture
def provider(redis: ArqRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Provider:
    use_clock(monkeypatch, keys)
    return Provider(redis, keys, outage_wait_s=DAY_S, lease_s=LEASE_S)


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


async def test_a_queue_that_waited_for_a_pause_gives_up_after_the_opening(
    provider: Provider,
) -> None:
    await provider.accept(*"mm")
    refused_one, failed_one = await provider.claim()
    jobs = [await provider.accept("m", interactive=True) for _ in range(40)]
    await provider.fail(refused(1), refused_one)
    assert await provider.claim() == []
    await provider.fail(UNREACHABLE, failed_one)
    await provider.claim()

    await provider.pass_time(31)
    for lease in await provider.claim():
        await provider.fail(UNREACHABLE, lease)

    for job in jobs:
        [result] = (await provider.results(job)).values()
        assert result["error_code"] == "connection_error"
