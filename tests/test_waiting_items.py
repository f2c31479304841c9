"""Tests items that wait for a provider: see lua/lib/waiting.lua."""

from dataclasses import replace

import pytest
from arq.connections import ArqRedis
from support.health import (
    DAY_S,
    HOUR_S,
    LEASE_S,
    QUOTA,
    UNAUTHORIZED,
    UNREACHABLE,
    Provider,
    overloaded,
    refused,
    use_clock,
)
from support.search_depth import examples

from shared.queue.leases import MAX_WORKER_LOSSES, Fault
from shared.queue.redis_keys import Keys

MAX_COMMANDS = 1500  # of a round; a command takes about 2 µs, and a round may take 5 ms


@pytest.fixture
def provider(redis: ArqRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Provider:
    use_clock(monkeypatch, keys)
    return Provider(redis, keys, outage_wait_s=DAY_S)


# How long, and with which result


async def test_a_queue_that_waited_for_a_pause_gives_up_after_the_opening(
    provider: Provider,
) -> None:
    await provider.accept(*"mm")
    refused_one, failed_one = await provider.claim()
    jobs = [await provider.accept("m", interactive=True) for _ in range(40)]
    await provider.fail(refused(HOUR_S), refused_one)
    assert await provider.claim() == []
    await provider.pass_time(10)

    await provider.fail(overloaded(1), failed_one)

    await provider.claim()
    assert provider.latest.next_round_s == pytest.approx(30, abs=0.5)
    assert await provider.results(jobs[0]) == {}
    assert await provider.next_round() == []
    for job in jobs:
        [result] = (await provider.results(job)).values()
        assert result["error_code"] == "overloaded"


async def test_a_code_of_a_newer_version_does_not_stop_the_worker(provider: Provider) -> None:
    """Workers of two versions run beside each other during an update."""
    await provider.open(replace(UNAUTHORIZED, code="newer"))
    job = await provider.accept("m", interactive=True)

    await provider.claim()

    [result] = (await provider.results(job)).values()
    assert result["error_code"] == "newer"
    assert [item.error_code for item in provider.finished] == ["internal_error"]


@pytest.mark.parametrize("interactive", [True, False], ids=["interactive", "bulk"])
@pytest.mark.parametrize(
    ("fault", "wait_s"),
    [(UNAUTHORIZED, 0), (QUOTA, 0), (UNREACHABLE, 30), (overloaded(1), 30)],
    ids=lambda value: value.verdict if isinstance(value, Fault) else "",
)
async def test_items_wait_for_a_limited_time(
    provider: Provider, fault: Fault, wait_s: float, *, interactive: bool
) -> None:
    wait_s = wait_s if interactive else DAY_S
    job = await provider.accept(*"mmm", interactive=interactive)
    called, *_ = await provider.claim(1)
    await provider.fail(fault, called, delay_s=None)
    if wait_s == 0:  # the item that was called has the result of its call, at once
        assert (await provider.results(job))[0]["error"] == "failed"
    if wait_s:
        await provider.claim()
        assert await provider.results(job) == {}
        await provider.pass_time(wait_s - 0.5)
        probes = await provider.claim()
        assert len(probes) == 1
        await provider.fail(fault, *probes)
        assert await provider.results(job) == {}
        await provider.pass_time(0.6)
    await provider.claim()
    if wait_s:  # items that have been called are deferred by up to 2 s
        await provider.pass_time(2)
        await provider.claim()

    results = await provider.results(job)
    assert [results[index]["error_code"] for index in range(3)] == [fault.code] * 3
    unsent = next(result for result in results.values() if result["error"] != "failed")
    assert unsent["error"].startswith(f"a {fault.reason}")
    assert unsent.get("status_code") == fault.status_code
    assert unsent["queued_ms"] == pytest.approx(wait_s * 1000, abs=3000)
    snapshot = await provider.store.snapshot(job)
    assert snapshot is not None
    assert (snapshot.failed, snapshot.finished, snapshot.queued) == (3, 3, 0)
    assert snapshot.finished_ms is not None
    assert sorted(await provider.store.completion_order(job, 0, 10)) == [0, 1, 2]
    assert await provider.redis.scard(provider.keys.failed(job)) == 3  # type: ignore[misc]
    assert await provider.redis.hlen(provider.keys.depth("a")) == 0  # type: ignore[misc]
    assert await provider.redis.hlen(provider.keys.payloads(job)) == 3  # type: ignore[misc]


async def test_an_unsent_item_is_reported_with_its_calls(provider: Provider) -> None:
    await provider.open()
    job = await provider.accept("m", interactive=True)
    for _ in range(3):
        await provider.claim()
        for probe in await provider.next_round():
            await provider.fail(UNREACHABLE, probe)
    await provider.pass_time(30)
    await provider.claim()
    calls = [item for item in provider.finished if item.model == "m"]

    [result] = (await provider.results(job)).values()
    assert 0 <= result["attempts"] <= 3
    assert [(item.lane, item.error_code) for item in calls] == [("a", "connection_error")]
    snapshot = await provider.store.snapshot(job)
    assert snapshot is not None
    assert (snapshot.latency_ms, snapshot.started_ms is None) == (0, result["attempts"] == 0)


@pytest.mark.parametrize("end", ["cancel", "deadline", "expire"])
async def test_a_job_that_ends_while_it_waits_leaves_nothing(provider: Provider, end: str) -> None:
    await provider.open()
    await provider.store.cancel("opens", "")
    jobs = [await provider.accept(*"mn", deadline_s=HOUR_S) for _ in range(3)]
    assert await provider.claim() == []
    for job in jobs:
        if end != "deadline":
            await provider.store.cancel(job, "")
        if end == "expire":
            await provider.redis.delete(provider.keys.job(job), provider.keys.payloads(job))
    await provider.pass_time(HOUR_S + 3)
    assert await provider.claim() == []

    assert provider.latest.next_round_s is None
    assert not await provider.redis.exists(
        provider.keys.blocked("a"), provider.keys.waiting("a", ""), provider.keys.fair_queue("a")
    )
    assert not await provider.redis.zcard(provider.keys.active_lanes)
    await provider.accept("m")
    assert len(await provider.claim()) == 1


async def test_a_quarantined_item_waits_and_gives_up_like_others(provider: Provider) -> None:
    """An item that has lost workers is in no queue, so it cannot wait in WAITING."""
    await provider.accept("m", job_id="loses", interactive=True)
    await provider.accept("n", job_id="runs")
    for _ in range(MAX_WORKER_LOSSES - 1):
        await provider.claim()
        await provider.pass_time(LEASE_S + 1)
    await provider.accept("m")
    leases = await provider.claim(running=1)
    other = next(lease for lease in leases if lease.payload.startswith(b"job"))
    await provider.release(*(lease for lease in leases if lease is not other))
    await provider.fail(overloaded(HOUR_S), other)

    [running] = await provider.claim()
    assert running.job_id == "runs"  # the first quarantined item does not block the second
    await provider.answer(running)
    assert await provider.results("loses") == {}
    assert 0 < (provider.latest.next_round_s or 0) <= 30 or await provider.claim() == []
    await provider.pass_time(31)
    await provider.claim()

    [result] = (await provider.results("loses")).values()
    assert result["error_code"] == "overloaded"


# Many queues, and a clock that is set back


async def test_many_waiting_queues_cost_no_long_round(provider: Provider) -> None:
    count, models = examples(300, full=5000), 100
    for number in range(count):
        await provider.accept(f"m{number % models}", owner="ann")
    await provider.accept("m0", owner="bob", job_id="bob")
    order: list[str] = []
    busiest = 0

    async def run(fault: Fault | None) -> bool:
        """Runs a round, and settles what it has claimed. Returns whether it has claimed."""
        nonlocal busiest
        before = await provider.commands()
        leases = await provider.round(10)
        busiest = max(busiest, await provider.commands() - before)
        is_at_once = provider.latest.next_round_s == 0
        if fault:
            await provider.fail(fault, *leases)
        else:
            await provider.answer(*leases)
            order.extend(lease.job_id for lease in leases)
        return bool(leases) or is_at_once

    while await run(UNREACHABLE):
        pass
    await provider.pass_time(3)
    while await run(UNREACHABLE):
        pass
    await provider.pass_time(10)
    while await run(None) or await run(None):
        pass

    assert len(order) == len(set(order)) == count + 1
    assert busiest <= MAX_COMMANDS
    # The jobs of an owner who has only one do not wait for all jobs of the other.
    assert order.index("bob") < count / 2


@pytest.mark.parametrize("fault", [UNREACHABLE, UNAUTHORIZED], ids=lambda fault: fault.verdict)
async def test_many_items_that_give_up_cost_no_long_round(provider: Provider, fault: Fault) -> None:
    jobs = [await provider.accept(*"m" * 150, interactive=True) for _ in range(8)]
    [lease] = await provider.claim(1)
    await provider.fail(fault, lease)
    await provider.claim(1)
    await provider.pass_time(33)
    busiest = rounds = 0
    next_round_s: float | None = 0
    while next_round_s == 0:
        before = await provider.commands()
        probes = await provider.round(1)
        busiest = max(busiest, await provider.commands() - before)
        next_round_s, rounds = provider.latest.next_round_s, rounds + 1
        await provider.fail(fault, *probes)

    assert sum([await provider.redis.scard(provider.keys.failed(job)) for job in jobs]) >= 1199  # type: ignore[misc]
    assert (busiest <= MAX_COMMANDS, rounds <= 20) == (True, True)


@pytest.mark.parametrize("interactive", [True, False], ids=["interactive", "bulk"])
async def test_a_clock_that_is_set_back_prolongs_nothing(
    provider: Provider, *, interactive: bool
) -> None:
    await provider.open()
    job = await provider.accept("m", interactive=interactive)
    await provider.claim()
    await provider.pass_time(-HOUR_S)

    assert await provider.claim() == []
    assert 0 < (provider.latest.next_round_s or 0) <= 1
    [probe] = await provider.next_round()
    await provider.fail(UNREACHABLE, probe)
    await provider.claim()
    for _ in range(4):
        await provider.pass_time(8)
        await provider.fail(UNREACHABLE, *await provider.claim())
    await provider.pass_time(3)
    await provider.fail(UNREACHABLE, *await provider.claim())
    await provider.claim()

    assert len(await provider.results(job)) == int(interactive)
