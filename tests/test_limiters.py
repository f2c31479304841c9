"""Tests the limits of models and rates in the claim: see lua/lib/limiters.lua."""

from collections import Counter
from collections.abc import Sequence

import pytest
from arq.connections import ArqRedis
from support.health import LEASE_S, refused, use_clock
from support.limited import LimitedProvider

from shared.providers import ModelLimits
from shared.queue.capacity import Rules
from shared.queue.leases import Announced, Lease
from shared.queue.redis_keys import Keys

DAY_S = 86_400.0
WAIT_S = 0.2  # longer than the rounds of a test take on a busy machine


@pytest.fixture
def provider(redis: ArqRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> LimitedProvider:
    use_clock(monkeypatch, keys)
    return LimitedProvider(redis, keys, outage_wait_s=DAY_S)


def jobs_of(leases: Sequence[Lease]) -> Counter[str]:
    return Counter(lease.job_id for lease in leases)


# Running calls of models


async def test_the_running_calls_of_a_model_and_of_a_pattern(provider: LimitedProvider) -> None:
    provider.rules = Rules(models=(ModelLimits("m", 2), ModelLimits("q-*", 3)))
    await provider.accept(*["m"] * 10, job_id="m")
    await provider.accept(*["q-1"] * 10, job_id="q-1")
    await provider.accept(*["q-2"] * 10, job_id="q-2")
    await provider.accept(*["other"] * 4, job_id="other")

    leases = await provider.claim(100)

    counts = jobs_of(leases)
    assert (counts["m"], counts["q-1"] + counts["q-2"], counts["other"]) == (2, 3, 4)
    by_job = {lease.job_id: lease for lease in leases}
    await provider.answer(by_job["m"], by_job["other"])
    assert jobs_of(await provider.claim(100)) == {"m": 1}


async def test_a_limit_is_set_for_a_pattern_of_the_file(provider: LimitedProvider) -> None:
    provider.rules = Rules(models=(ModelLimits("q-*", 3),))
    await provider.set_limits("a/q-*", concurrency=5)
    await provider.accept("q-1", "q-2", *["q-3"] * 8)

    assert len(await provider.claim(100)) == 5


@pytest.mark.parametrize(
    ("limit", "of_q1", "of_all"),
    [({"rpd": 2}, 2, 4), ({"concurrency": 1}, 1, 5), ({"concurrency": 6}, 6, 10)],
    ids=str,
)
async def test_a_limit_set_for_a_model_replaces_only_the_same_limit_of_its_pattern(
    provider: LimitedProvider, limit: dict[str, int], of_q1: int, of_all: int
) -> None:
    provider.rules = Rules(models=(ModelLimits("q-*", 4),))
    await provider.set_limits("a/q-1", **limit)
    await provider.accept(*["q-1"] * 10, job_id="q-1")
    leases = await provider.claim(100)
    assert len(leases) == of_q1
    await provider.accept(*["q-2"] * 10, job_id="q-2")
    leases += await provider.claim(100)
    assert len(leases) == of_all

    await provider.use(*leases)
    assert (await provider.running_of("q-1"), await provider.running_of("q-*")) == (0, 0)


async def test_rpm(provider: LimitedProvider) -> None:
    provider.rules = Rules(rpm=60)
    await provider.accept(*["m"] * 10, job_id="m")

    assert len(await provider.claim(100)) == 1
    times = []
    for _ in range(4):
        times.append(await provider.wait())
        [lease] = await provider.claim(100)
        await provider.use(lease)
        await provider.claim(100)
    assert times == [pytest.approx(0.5, abs=WAIT_S), *[pytest.approx(1, abs=WAIT_S)] * 3]


# Rates


async def test_a_rate_beyond_a_call_in_a_round_admits_several(provider: LimitedProvider) -> None:
    provider.rules = Rules(rpm=60_000)  # one in a ms
    await provider.accept(*["m"] * 200, job_id="m")
    await provider.pass_time(1)

    assert 45 <= len(await provider.round(500, free_slots=500)) <= 51  # what a bucket of 50 ms has


async def test_rpd_may_be_used_at_once(provider: LimitedProvider) -> None:
    provider.rules = Rules(rpd=5)
    await provider.accept(*["m"] * 10, job_id="m")

    assert len(await provider.claim(100)) == 5
    waited_s = await provider.wait()
    await provider.pass_time(DAY_S / 5 - waited_s)
    assert len(await provider.claim(100)) == 1


async def test_tpm_waits_for_what_an_answer_has_really_used(provider: LimitedProvider) -> None:
    provider.rules = Rules(tpm=6_000)  # 100 a second
    await provider.accept(*["m"] * 10, job_id="m")

    [first] = await provider.claim(100)  # estimated, and there is no other call to go by
    await provider.use(first, prompt=400, output=100)
    [second] = await provider.next_claims()

    # The first answer has shown how many tokens to expect. A second's worth may still be owed,
    # because no refusal has shown that the provider's bucket is small.
    assert (await provider.budget("m"))["t"] == pytest.approx(6, abs=0.1)
    await provider.use(second, prompt=400, output=100)
    admitted_s = await provider.now_s()
    [third] = await provider.next_claims()
    await provider.use(third, prompt=400, output=100)
    [_] = await provider.next_claims()
    # In the long run a call of 500 tokens runs every 5 s.
    assert await provider.now_s() - admitted_s == pytest.approx(10, abs=1)


async def test_a_call_without_usage_stays_charged(provider: LimitedProvider) -> None:
    provider.rules = Rules(tpm=6_000)
    await provider.accept(*["m"] * 4, job_id="m")
    [lease] = await provider.claim(100)
    before = (await provider.budget("m"))["t"]

    await provider.use(lease)

    assert (await provider.budget("m"))["t"] == pytest.approx(before, abs=WAIT_S)


async def test_after_a_refusal_a_call_begins_when_the_smallest_bucket_is_full(
    provider: LimitedProvider,
) -> None:
    provider.rules = Rules(tpm=6_000)  # 100 a second
    await provider.accept(*["m"] * 10, job_id="m")
    [first] = await provider.claim(100)
    await provider.refuse(first)
    [second] = await provider.next_claims()

    await provider.pass_time(20)  # the bucket is full again, and holds no more
    await provider.use(second, prompt=100, output=400)

    assert await provider.claim(100) == []
    assert await provider.wait() == pytest.approx(4, abs=WAIT_S)
    [_] = await provider.claim(100)


@pytest.mark.parametrize(("counts_refused", "charged"), [(True, 1), (False, 0)])
async def test_a_refused_call(
    provider: LimitedProvider, *, counts_refused: bool, charged: int
) -> None:
    provider.rules = Rules(rpm=60, tpm=6_000, rpd=100, counts_refused=counts_refused)
    await provider.accept(*["m"] * 4, job_id="m")
    [lease] = await provider.claim(100)

    await provider.refuse(lease)

    owed = await provider.budget("m")
    assert owed["r"] == pytest.approx(charged, abs=WAIT_S)
    assert owed["d"] == pytest.approx(charged * DAY_S / 100, abs=WAIT_S)
    assert owed["t"] == pytest.approx(0, abs=WAIT_S)


@pytest.mark.parametrize("model", ["x|y|b|w", "x~-y", "~a", "x|b", "limit:x", "a@1"])
async def test_a_model_may_have_any_name(
    provider: LimitedProvider, redis: ArqRedis, keys: Keys, model: str
) -> None:
    provider.rules = Rules(rpm=60_000)
    await provider.accept(model)
    [lease] = await provider.claim(10)
    await provider.refuse(lease, fault=refused(60))

    assert await redis.hexists(keys.health("a"), model)  # type: ignore[misc]
    assert await provider.running_of(model) == 0

    await provider.pass_time(61)
    [lease] = await provider.claim(10)
    await provider.pass_time(LEASE_S + 1)  # the worker is lost
    [_] = await provider.claim(10)
    assert await provider.running_of(model) == 1


async def test_a_limit_of_calls_is_free_again_when_a_worker_is_lost(
    provider: LimitedProvider,
) -> None:
    provider.rules = Rules(rpm=60, models=(ModelLimits("m", max_concurrent_requests=1),))
    await provider.accept(*["m"] * 2, job_id="m")
    await provider.claim()
    assert await provider.claim() == []

    await provider.pass_time(LEASE_S + 1)

    assert len(await provider.claim()) == 1
    assert await provider.running_of("m") == 1
    owed = await provider.budget("m")
    assert owed["r"] == pytest.approx(1, abs=WAIT_S)  # time has repaid the call of the lost worker


async def test_the_rates_of_an_account_count_all_models(provider: LimitedProvider) -> None:
    provider.rules = Rules(rpm=60, per_account=True, models=(ModelLimits("m", 1),))
    await provider.accept("m", "n", job_id="j")

    [first] = await provider.claim()
    assert await provider.claim() == []
    assert first.lease_id.endswith(("~a", "~am"))
    await provider.next_claims()
    assert (await provider.budget(""))["r"] == pytest.approx(1.5, abs=WAIT_S)


async def test_a_model_replaces_the_rates_of_each_model(provider: LimitedProvider) -> None:
    provider.rules = Rules(rpd=2, models=(ModelLimits("m", rpd=3),))
    await provider.accept(*["m"] * 9, job_id="m")
    await provider.accept(*["n"] * 9, job_id="n")

    assert jobs_of(await provider.claim(100)) == {"m": 3, "n": 2}


# Where limits come from


async def test_limits_that_were_set_beat_the_rules_and_these_beat_announced_limits(
    provider: LimitedProvider,
) -> None:
    await provider.accept(*["m"] * 30, job_id="m")
    await provider.accept(*["n"] * 30, job_id="n")
    leases = {lease.job_id: lease for lease in await provider.claim(10)}
    assert leases.keys() == {"m", "n"}
    await provider.answer(*await provider.claim(10))
    await provider.use(*leases.values(), announced={"rpd": Announced(2), "rpm": Announced(600)})
    assert jobs_of(await provider.claim(100)) == {"m": 2, "n": 2}

    provider.rules = Rules(models=(ModelLimits("m", rpd=6),))
    assert jobs_of(await provider.claim(100)) == {"m": 4}

    await provider.set_limits("a/m", rpd=20)
    assert jobs_of(await provider.claim(100)) == {"m": 14}
    await provider.set_limits("a", concurrency=21)
    assert await provider.claim(100) == []


async def test_a_set_limit_ends(provider: LimitedProvider) -> None:
    until_ms = (await provider.now_s() + 60) * 1000
    await provider.set_limits("a", concurrency=2, until_ms=until_ms)
    await provider.accept(*["m"] * 10)
    assert len(await provider.claim(5)) == 2

    await provider.pass_time(LEASE_S / 2)
    assert await provider.claim(5) == []
    await provider.pass_time(60)

    assert len(await provider.claim(5)) == 5
    assert not await provider.redis.exists(provider.keys.limits)


async def test_an_announced_limit_may_be_used_at_once_as_far_as_it_is_left(
    provider: LimitedProvider,
) -> None:
    await provider.accept(*["m"] * 100, job_id="m")
    [lease] = await provider.claim(1)
    await provider.use(lease, announced={"rpm": Announced(60, left=59)})
    leases = await provider.claim(100)
    assert len(leases) == 59

    await provider.pass_time(30)
    leases = await provider.claim(100)
    assert len(leases) == 30
    # Somebody else has used the rest.
    await provider.pass_time(10)
    await provider.use(leases[0], announced={"rpm": Announced(60, left=3)})
    assert len(await provider.claim(100)) == 3


async def test_what_is_left_delays_calls_under_a_limit_of_the_rules(
    provider: LimitedProvider,
) -> None:
    provider.rules = Rules(rpm=60)
    await provider.accept(*["m"] * 9, job_id="m")
    [lease] = await provider.claim(1)
    await provider.pass_time(5)

    await provider.use(lease, announced={"rpm": Announced(60, left=0)})

    assert await provider.claim() == []
    assert await provider.wait() == pytest.approx(0.5, abs=WAIT_S)
    assert len(await provider.claim()) == 1


# Fairness and many queues


async def test_two_owners_keep_their_shares_under_a_budget(provider: LimitedProvider) -> None:
    provider.rules = Rules(rpm=600)
    await provider.accept(*["m"] * 60, job_id="first", owner="one")
    await provider.accept(*["m"] * 60, job_id="second", owner="two")

    served = Counter[str]()
    for _ in range(60):
        leases = await provider.next_claims()
        await provider.use(*leases)
        served += jobs_of(leases)
        assert abs(served["first"] - served["second"]) <= 10


async def test_more_queues_wait_for_limits_than_a_claim_looks_at(provider: LimitedProvider) -> None:
    provider.rules = Rules(rpd=1)
    models = [f"m{number:02}" for number in range(40)]
    for model in models:
        await provider.accept(*[model] * 2, job_id=model)
    leases = await provider.claim(100)
    assert jobs_of(leases) == dict.fromkeys(models, 1)

    await provider.accept("late", job_id="late")
    late = await provider.claim(100)
    assert jobs_of(late) == {"late": 1}
    await provider.answer(*leases, *late)
    await provider.pass_time(DAY_S)

    assert jobs_of(await provider.claim(100)) == dict.fromkeys(models, 1)


async def test_after_a_set_back_of_the_clock_nothing_waits_longer(
    provider: LimitedProvider,
) -> None:
    await provider.pass_time(10 * DAY_S)
    provider.rules = Rules(rpm=60, rpd=1000)
    await provider.accept(*["m"] * 9, job_id="m")
    [lease] = await provider.claim()
    await provider.use(lease)

    await provider.pass_time(-9 * DAY_S)

    for _ in range(20):
        if await provider.claim():
            return
        await provider.pass_time(60)
    pytest.fail("no call within 20 minutes")
