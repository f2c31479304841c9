"""Tests the health of a provider in the claim: see lua/lib/pauses.lua and lua/lib/waiting.lua."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from arq.connections import ArqRedis
from support.claims import accept, settle
from support.health import (
    ANSWERED_500,
    ANSWERED_503,
    LEASE_S,
    QUOTA,
    REJECTED,
    TIMEOUT,
    UNAUTHORIZED,
    UNFINISHED,
    UNREACHABLE,
    Provider,
    overloaded,
    refused,
    use_clock,
)
from support.redis_server import Server
from support.search_depth import examples

from shared.queue.capacity import Capacity, Limits
from shared.queue.leases import MAX_WORKER_LOSSES, Fault, Lease, Settlement
from shared.queue.redis_keys import Keys

HOUR_S, DAY_S = 3600.0, 86_400.0
MAX_COMMANDS = 1500  # of a round; a command takes about 2 µs, and a round may take 5 ms


@pytest.fixture
def provider(redis: ArqRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Provider:
    use_clock(monkeypatch, keys)
    return Provider(redis, keys, outage_wait_s=DAY_S)


# What opens a scope


@pytest.mark.parametrize(
    ("fault", "scope"),
    [
        (UNREACHABLE, ""),
        (UNAUTHORIZED, ""),
        (QUOTA, "m"),
        (replace(QUOTA, covers_account=True), ""),
        (overloaded(20), "m"),
    ],
    ids=lambda value: value.verdict if isinstance(value, Fault) else value or "account",
)
async def test_the_first_call_opens_the_scope(provider: Provider, fault: Fault, scope: str) -> None:
    await provider.accept(*"mmn")
    leases = await provider.claim(1)

    await provider.fail(fault, *leases)

    other = "m" if scope == "" else ""
    assert (await provider.is_open(scope), await provider.is_open(other)) == (True, False)
    routes = [lease.item_id.request_index for lease in await provider.claim()]
    assert routes == ([] if scope == "" else [2])


@pytest.mark.parametrize(
    ("history", "is_open"),
    [
        ("01234", True),
        ("0123", False),
        ("01012", True),
        ("0101010101", False),  # two items are no evidence
        ("0123a4", False),  # a: the answer of another item
        ("0123a012345", False),  # an item that failed before the answer is no evidence
        ("0a1a2a3a4a5a", False),
        ("012340", True),
    ],
)
@pytest.mark.parametrize("fault", [ANSWERED_503, TIMEOUT], ids=["503", "timeout"])
async def test_five_failures_in_a_row_of_three_items_open_the_account(
    provider: Provider, history: str, fault: Fault, *, is_open: bool
) -> None:
    """`history` has the item that fails, call for call."""
    job = await provider.accept(*"m" * 6)
    good = await provider.accept(*"m" * history.count("a"))
    leases: dict[tuple[str, int], Lease] = {}
    for event in history:
        claimed = await provider.claim(50, free_slots=100, running=len(leases))
        leases |= {(lease.job_id, lease.item_id.request_index): lease for lease in claimed}
        if event == "a":
            await provider.answer(leases.pop(next(key for key in leases if key[0] == good)))
        else:
            await provider.fail(fault, leases.pop((job, int(event))))

    assert await provider.is_open() == await provider.is_open("m") == is_open


@pytest.mark.parametrize("fault", [UNFINISHED, REJECTED], ids=lambda fault: fault.verdict)
async def test_a_request_that_is_at_fault_opens_nothing(provider: Provider, fault: Fault) -> None:
    await provider.accept(*"m" * 8)
    await provider.fail(fault, *await provider.claim())

    assert not await provider.is_open()
    assert not await provider.is_open("m")
    assert [lease.attempts for lease in await provider.claim()] == [1] * 8


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


# Refusals


@pytest.mark.parametrize(
    ("faults", "runs"),
    [
        ({"m": refused(20)}, "no"),
        ({"m": refused(20, covers_account=True)}, ""),
        ({"m": refused(20), "n": refused(20)}, ""),
        ({"m": refused(0), "n": refused(None)}, ""),
        ({"m": QUOTA}, "no"),
    ],
    ids=["route", "account", "two routes", "two routes without a wait", "quota"],
)
async def test_a_refusal_pauses_what_the_evidence_covers(
    provider: Provider, faults: dict[str, Fault], runs: str
) -> None:
    await provider.accept(*"mno")
    leases = dict(zip("mno", await provider.claim(), strict=True))
    await provider.answer(leases["o"])
    await provider.accept("o")
    for route, fault in faults.items():
        await provider.fail(fault, leases[route])
    if "n" not in faults:
        await provider.release(leases["n"])

    assert len(await provider.claim()) == len(runs)


async def test_answers_of_another_model_show_that_refusals_cover_only_their_models(
    provider: Provider,
) -> None:
    await provider.accept(*"mno")
    leases = dict(zip("mno", await provider.claim(), strict=True))
    await provider.fail(refused(20), leases["m"])
    await provider.fail(refused(20), leases["n"])
    assert (await provider.record())["is_assumed"]

    await provider.answer(leases["o"])

    await provider.accept(*"mno")
    [lease] = await provider.claim()
    assert lease.item_id.request_index == 2
    await provider.answer(lease)
    await provider.pass_time(20.5)
    await provider.accept("o")
    for lease in (await provider.claim())[:4]:
        await provider.fail(refused(20), lease)
    assert "is_assumed" not in await provider.record()


async def test_an_answer_does_not_end_a_pause_of_the_account_that_a_refusal_named(
    provider: Provider,
) -> None:
    await provider.accept(*"mno")
    leases = dict(zip("mno", await provider.claim(), strict=True))
    await provider.fail(refused(20), leases["m"])
    await provider.fail(refused(20, covers_account=True), leases["n"])
    await provider.answer(leases["o"])
    await provider.accept("o")

    assert await provider.claim() == []


async def test_models_that_fail_now_keep_their_counts_if_there_are_too_many(
    provider: Provider,
) -> None:
    """Beyond 1,000 models, the records of those that have not failed for a while are removed."""
    await provider.accept("m", "n")
    [m, n] = await provider.claim()
    await provider.fail(ANSWERED_503, m)
    source = (
        "local record = redis.call('HGET', KEYS[1], 'm')"
        " for i = 1, 1000 do redis.call('HSET', KEYS[1], 'x' .. i, record) end"
    )
    health = provider.keys.health("a")
    await provider.redis.eval(source, 1, health)  # type: ignore[misc]
    count = await provider.redis.hlen(health)  # type: ignore[misc]

    await provider.fail(ANSWERED_503, n)
    assert await provider.redis.hlen(health) == count  # type: ignore[misc]

    await provider.pass_time(31)
    [_, n] = await provider.claim()
    await provider.fail(ANSWERED_503, n)
    assert await provider.redis.hlen(health) < count  # type: ignore[misc]


async def test_models_that_are_refused_far_apart_have_causes_of_their_own(
    provider: Provider,
) -> None:
    await provider.accept(*"mno")
    leases = dict(zip("mno", await provider.claim(), strict=True))
    await provider.release(leases["o"])
    await provider.fail(refused(430), leases["m"])
    await provider.pass_time(60)
    await provider.fail(refused(3000), leases["n"])

    assert len(await provider.claim()) == 1


@pytest.mark.parametrize(
    ("named_s", "waits_s"),
    [
        (None, [0.5, 1, 2, 4]),
        (0, [0.5, 1, 2, 4]),
        (1.5, [1.5, 1.5, 2, 4]),
        (HOUR_S, [HOUR_S] * 4),
        (7 * DAY_S, [7 * DAY_S] * 2),
    ],
)
async def test_a_named_wait_is_never_shorter_than_the_back_off(
    provider: Provider, named_s: float | None, waits_s: list[float]
) -> None:
    await provider.accept("m", deadline_s=30 * DAY_S)
    [lease] = await provider.claim()
    waited_s = []
    for _ in waits_s:
        await provider.fail(refused(named_s), lease)
        assert await provider.claim() == []
        waited_s.append(provider.latest.next_round_s)
        [lease] = await provider.next_round()
        assert lease.attempts == 0

    assert waited_s == pytest.approx(waits_s, abs=0.4)


async def test_an_answer_during_a_pause_ends_the_back_off(provider: Provider) -> None:
    await provider.accept(*"m" * 6)
    for _ in range(2):
        [lease] = await provider.claim(1)
        await provider.fail(refused(), lease)
        await provider.pass_time(3)
    last, answered = await provider.claim(2)
    await provider.fail(refused(), last)

    await provider.answer(answered)

    await provider.pass_time(3)
    [lease] = await provider.claim(1)
    await provider.fail(refused(), lease)
    await provider.claim(1)
    assert provider.latest.next_round_s == pytest.approx(0.5, abs=0.2)


async def test_more_than_three_refusals_in_a_row_without_a_wait_open_the_route(
    provider: Provider,
) -> None:
    await provider.accept(*"mm")
    opened = []
    for _ in range(4):
        [lease] = await provider.claim(1)
        await provider.fail(refused(), lease)
        opened.append(await provider.is_open("m"))
        await provider.pass_time(5)

    assert opened == [False, False, False, True]
    assert len(await provider.claim()) == 1


async def test_the_refusals_of_one_burst_count_once(provider: Provider) -> None:
    await provider.accept(*"m" * 10)
    await provider.fail(refused(), *await provider.claim())

    assert await provider.claim() == []
    assert not await provider.is_open("m")
    assert provider.latest.next_round_s == pytest.approx(0.5, abs=0.2)


async def test_a_refusal_says_that_the_key_is_accepted_again(provider: Provider) -> None:
    await provider.open(UNAUTHORIZED)
    await provider.accept("n")
    await provider.claim()
    [probe] = await provider.next_round()

    await provider.fail(refused(HOUR_S), probe)

    assert not await provider.is_open()
    assert len(await provider.claim()) == 1


# Waits and results


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
    calls = [item for item in provider.finished if item.route == "m"]

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


# Many queues, other lanes, Redis


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


async def test_other_lanes_and_workers_without_the_lane_are_not_affected(
    provider: Provider,
) -> None:
    await provider.open()
    await provider.accept("m")
    await accept(provider.store, "other", "bb")
    await provider.pass_time(1.1)

    claimed = await provider.queue.settle_and_claim([], Capacity(Limits({"b": 10}), {}, 10))

    assert [lease.lane for lease in claimed.leases] == ["b", "b"]
    assert claimed.next_round_s == pytest.approx(LEASE_S, abs=0.1)
    assert await provider.is_open()


async def test_a_failed_delivery_of_a_webhook_is_no_evidence(provider: Provider) -> None:
    """Each receiver is another server, so a task that names no fault leaves the lane healthy."""
    await provider.accept(*"m" * 8)
    for lease in await provider.claim():
        await settle(provider.queue, Settlement(lease, "retry", delay_s=0))

    assert len(await provider.claim()) == 8
    assert not await provider.redis.exists(provider.keys.health("a"))


async def test_an_open_scope_survives_a_restart_of_redis(
    server: Server, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_clock(monkeypatch, keys)
    provider = Provider(server.client, keys, outage_wait_s=DAY_S)
    await provider.open()
    await provider.accept(*"mm")
    assert await provider.claim() == []
    record = await provider.record()

    await server.kill()
    await server.start()

    assert await provider.record() == record
    assert await provider.claim() == []
    [probe] = await provider.next_round()
    await provider.answer(probe)
    assert len(await provider.claim()) == 2


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


async def test_the_records_of_a_lane_are_limited(provider: Provider) -> None:
    """Users choose the names of models, so the routes beyond the limit share the account."""
    for job in range(11):
        await provider.accept(*(f"m{job}-{number}" for number in range(95)))
    leases = await provider.claim(2000, free_slots=2000)

    await provider.fail(QUOTA, *leases)

    assert len(leases) == 11 * 95
    assert await provider.redis.hlen(provider.keys.health("a")) <= 1001  # type: ignore[misc]
    assert await provider.is_open()
