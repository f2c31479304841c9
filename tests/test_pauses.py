"""Tests what pauses a provider or a model, and for how long: see lua/lib/pauses.lua."""

from dataclasses import replace

import pytest
from arq.connections import ArqRedis
from support.claims import accept, settle
from support.health import (
    ANSWERED_503,
    DAY_S,
    HOUR_S,
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

from shared.queue.capacity import Capacity, Limits
from shared.queue.leases import Fault, Lease, Settlement
from shared.queue.redis_keys import Keys


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


# Other lanes, webhooks, Redis


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


async def test_the_records_of_a_lane_are_limited(provider: Provider) -> None:
    """Users choose the names of models, so the routes beyond the limit share the account."""
    for job in range(11):
        await provider.accept(*(f"m{job}-{number}" for number in range(95)))
    leases = await provider.claim(2000, free_slots=2000)

    await provider.fail(QUOTA, *leases)

    assert len(leases) == 11 * 95
    assert await provider.redis.hlen(provider.keys.health("a")) <= 1001  # type: ignore[misc]
    assert await provider.is_open()
