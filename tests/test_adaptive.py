"""Tests how the number of running calls adapts to the provider: see lua/lib/adaptive_limit.lua."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from arq.connections import ArqRedis
from support.health import (
    ANSWERED_500,
    ANSWERED_503,
    QUOTA,
    TIMEOUT,
    overloaded,
    refused,
    use_clock,
)
from support.limited import LimitedProvider
from support.search_depth import FULL
from support.virtual_run import Call, Reply, VirtualRun, use_virtual_clock

from shared.queue.capacity import Rules
from shared.queue.leases import Announced, CallUsage, Fault, Lease, Settlement
from shared.queue.redis_keys import Keys

LIMIT = 100
CAPACITIES = (40, 12, 80)


@pytest.fixture
async def provider(redis: ArqRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> LimitedProvider:
    use_clock(monkeypatch, keys)
    provider = LimitedProvider(redis, keys, outage_wait_s=86_400)
    provider.rules = Rules(adaptive=True)
    await provider.accept(*["m"] * 2000)
    return provider


async def claim(provider: LimitedProvider, running: int = 0) -> list[Lease]:
    return await provider.claim(LIMIT, free_slots=500, running=running)


async def answered_round(provider: LimitedProvider) -> int:
    """Fills all slots and answers the calls. Returns their number."""
    leases = await claim(provider)
    await provider.use(*leases)
    return len(leases)


async def test_the_cap_doubles_until_the_first_refusal(provider: LimitedProvider) -> None:
    assert [await answered_round(provider) for _ in range(5)] == [10, 20, 40, 80, LIMIT]

    leases = await claim(provider)
    await provider.refuse(*leases[:30])
    assert await provider.cap() == 80
    await provider.use(*leases[30:])
    await provider.pass_time(0.3)
    assert await answered_round(provider) in range(80, 96)  # 70 answers came while it was full


async def test_after_a_cut_the_cap_grows_slowly(provider: LimitedProvider) -> None:
    await answered_round(provider)
    [lease, *rest] = await claim(provider)
    await provider.refuse(lease)
    await provider.release(*rest)
    await provider.pass_time(0.3)

    counts = [await answered_round(provider) for _ in range(12)]
    assert counts[0] == 16
    near = [later - earlier for earlier, later in pairwise(counts) if 19 <= earlier <= 23]
    assert near
    assert max(near) <= 2  # the provider refused a call beyond 20
    for earlier, later in pairwise(counts):
        rate = 0.12 if later <= 24 else 0.27
        assert 0 < later - earlier <= 2 + rate * earlier
    assert counts[-1] > 60


async def test_slots_that_are_not_used_say_nothing(provider: LimitedProvider) -> None:
    leases = await provider.claim(LIMIT, free_slots=5)
    await provider.use(*leases)

    assert await provider.cap() in {None, 10}


@pytest.mark.parametrize(
    ("fault", "cap"),
    [
        (refused(), 8),
        (refused(0.5), 8),
        (refused(5), None),  # a rate
        (overloaded(), 8),
        (overloaded(5), 8),
        (ANSWERED_503, 8),
        (replace(ANSWERED_503, status_code=498), 8),
        (ANSWERED_500, None),
        (replace(QUOTA, status_code=429), None),
    ],
    ids=str,
)
async def test_what_is_a_signal(provider: LimitedProvider, fault: Fault, cap: float | None) -> None:
    [lease, *_] = await claim(provider)

    await provider.refuse(lease, fault=fault)

    assert await provider.cap() == cap


async def test_a_refusal_because_of_a_budget_is_no_signal(provider: LimitedProvider) -> None:
    [lease, *_] = await claim(provider)
    usage = CallUsage(announced={"rpm": Announced(600, left=0)})

    await provider.settled(Settlement(lease, "retry", b"{}", 100, fault=refused(), usage=usage))

    assert await provider.cap() is None


async def test_refusals_pause_for_a_moment_while_the_cap_can_be_cut(
    provider: LimitedProvider,
) -> None:
    for _ in range(30):
        [lease, *rest] = await claim(provider)
        await provider.refuse(lease)
        await provider.release(*rest)
        if (await provider.cap() or LIMIT) < 2:
            break
        assert not await provider.is_open("m")
        await provider.pass_time(0.26)
    assert await provider.is_open("m")  # as without an adaptive limit


class Capacity:
    """Refuses calls beyond what it takes, and says so only then. Calls take 2 s (p95: 4 s)."""

    def __init__(self, phase_s: float, seed: int) -> None:
        self.phase_s, self.rng, self.running = phase_s, random.Random(seed), 0

    def begin(self, call: Call) -> Reply:
        if self.running >= CAPACITIES[min(2, int(call.start_s / self.phase_s))]:
            return Reply(0.05, refused())
        self.running += 1
        return Reply(2 * math.exp(self.rng.gauss(0, 0.42)))

    def end(self, call: Call) -> None:
        if not call.fault:
            self.running -= 1


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5] if FULL else [1])
async def test_a_hidden_capacity_is_used(
    redis: ArqRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    phase_s = 100 if FULL else 40
    use_virtual_clock(monkeypatch, keys)
    rules = Rules(adaptive=True)
    run = VirtualRun(
        *(redis, keys, Capacity(phase_s, seed)), limit=200, rules=rules, max_retries=3, slots=500
    )
    await run.accept([f"{number}" for number in range(int(sum(CAPACITIES) * phase_s / 2))])
    await run.run(until_s=3 * phase_s)
    await run.close()

    answers = [call for call in run.calls if call.end_s and not call.fault]
    used_s = sum(call.end_s - call.start_s for call in answers)
    assert used_s / (sum(CAPACITIES) * phase_s) >= (0.8 if FULL else 0.64)
    assert sum(bool(call.fault) for call in run.calls) / len(answers) <= (0.0175 if FULL else 0.03)


# Time-outs


@pytest.fixture
async def slow(provider: LimitedProvider) -> LimitedProvider:
    provider.rules = Rules()
    return provider


async def test_time_outs_halve_the_running_calls_once_an_epoch(slow: LimitedProvider) -> None:
    leases = await slow.claim(10)
    await slow.use(*leases[:6])
    leases = [*leases[6:], *(await slow.claim(10, running=4))]
    assert len(leases) == 10

    await slow.refuse(*leases[:4], fault=TIMEOUT)

    assert await slow.cap() == 5
    await slow.use(*leases[4:])
    counts = []
    for _ in range(12):
        leases = await slow.claim(10)
        await slow.use(*leases)
        counts.append(len(leases))
    assert counts in ([5] * 10 + [6] * 2, [5] * 11 + [6])


async def test_few_time_outs_among_many_answers_say_nothing(slow: LimitedProvider) -> None:
    for _ in range(30):
        leases = await slow.claim(20)
        await slow.use(*leases[1:])
        await slow.refuse(leases[0], fault=TIMEOUT)

    assert await slow.cap() is None
    assert len(await slow.claim(20)) == 20


async def test_the_cap_of_a_server_that_works_again_grows_quickly(slow: LimitedProvider) -> None:
    for _ in range(4):
        await slow.refuse(*(await slow.next_claims()), fault=TIMEOUT)
    assert (await slow.cap() or 0) <= 2

    for _ in range(40):
        await slow.use(*(await slow.next_claims()))

    assert (await slow.cap() or LIMIT) >= LIMIT / 2


async def test_a_server_that_has_answered_nothing_is_not_overloaded(slow: LimitedProvider) -> None:
    """A model is loaded, and the load takes longer than the time-out."""
    first, *others = await slow.claim(10)
    await slow.pass_time(3)
    await slow.refuse(first, fault=TIMEOUT)
    assert await slow.claim(10, running=9) == []  # no call that would abort the load once more
    await slow.refuse(*others, fault=TIMEOUT)
    assert await slow.cap() == 5

    await slow.pass_time(0.1)
    [probe] = await slow.claim(10)
    assert probe.timeout_factor == 2
    await slow.pass_time(5)
    await slow.use(probe)
    await slow.use(*await slow.claim(10))

    assert await slow.cap() is None  # the cap ends when it reaches the limit
    assert len(await slow.claim(10)) == 10


async def test_a_server_that_has_answered_something_is_overloaded(slow: LimitedProvider) -> None:
    """Time-outs open the lane, although six of ten calls are answered within the time-out."""
    leases = await slow.claim(10)
    for first in leases[:6]:
        await slow.pass_time(0.5)
        await slow.use(first)
        leases += await slow.claim(10, running=9)
    assert len(leases) == 16

    await slow.refuse(*leases[6:], fault=TIMEOUT)
    assert await slow.is_open("m")
    await slow.pass_time(0.1)
    [probe] = await slow.claim(10)
    await slow.use(probe)
    await slow.use(*await slow.claim(10))

    assert (await slow.cap() or 10) < 6
