"""Tests that no history of claims and settlements admits more requests than a rate allows."""

from itertools import combinations
from typing import Any
from uuid import uuid4

import pytest
from arq.connections import ArqRedis
from hypothesis import given
from hypothesis import strategies as st
from support.health import LEASE_S, use_clock
from support.histories import histories
from support.limited import LimitedProvider

from shared.providers import ModelLimits
from shared.queue.capacity import Rules
from shared.queue.leases import Announced, Lease
from shared.queue.redis_keys import Keys

# Counting lines would double its time, and other tests run the same lines.
pytestmark = pytest.mark.no_cover

LIMIT = 6  # of running calls
ROUNDING_S = 0.01

index = st.integers(0, LIMIT - 1)
step = st.one_of(
    st.tuples(st.just("claim"), st.integers(1, 8)),
    st.tuples(st.just("claim"), st.integers(1, 8)),
    st.tuples(st.just("answer"), index, st.sampled_from([None, 5, 40, 2000])),
    st.tuples(st.just("answer"), index, st.sampled_from([5, 40])),
    st.tuples(st.sampled_from(["refuse", "release"]), index),
    st.tuples(st.just("pass_time"), st.sampled_from([0.04, 0.3, 1.1, 7, LEASE_S + 1])),
)


class History:
    def __init__(self, provider: LimitedProvider, burst: float) -> None:
        self.provider = provider
        self.burst = burst
        self.running: list[Lease] = []
        self.admitted_at: dict[str, float] = {}  # lease → seconds

    async def run(self, action: str, *arguments: Any) -> None:
        provider = self.provider
        match action, arguments:
            case "claim", (free_slots,):
                # Earlier than the claim: a call may count as early, but never as late.
                at = await provider.now_s()
                for lease in await provider.claim(LIMIT, free_slots=free_slots):
                    self.admitted_at[lease.lease_id] = at
                    self.running.append(lease)
            case "pass_time", (seconds,):
                await provider.pass_time(seconds)
                if seconds > LEASE_S:
                    self.running = []  # the worker is lost
            case "answer", (number, tokens) if number < len(self.running):
                await provider.use(self.running.pop(number), prompt=tokens)
            case "refuse", (number,) if number < len(self.running):
                lease = self.running.pop(number)
                await provider.refuse(lease)
                del self.admitted_at[lease.lease_id]  # the provider has not counted the call
            case "release", (number,) if number < len(self.running):
                await provider.release(self.running.pop(number))

    def check(self, per_s: float) -> None:
        times = sorted(self.admitted_at.values())
        for first, last in combinations(range(len(times)), 2):
            seconds = times[last] - times[first] + ROUNDING_S
            assert last - first + 1 <= self.burst + seconds * per_s


@given(steps=st.lists(step, min_size=10, max_size=60), is_announced=st.booleans())
@histories(8, full=500)
async def test_a_rate_is_never_exceeded(
    redis: ArqRedis, steps: list[tuple[Any, ...]], *, is_announced: bool
) -> None:
    rpm = 10 if is_announced else 240
    with pytest.MonkeyPatch.context() as monkeypatch:
        keys = Keys(f"limiters-{uuid4().hex}:")
        use_clock(monkeypatch, keys)
        provider = LimitedProvider(redis, keys, outage_wait_s=86_400)
        history = History(provider, burst=rpm if is_announced else 1.5)
        await provider.accept(*["m"] * 200)
        models = (ModelLimits("m", max_concurrent_requests=4),)
        provider.rules = Rules(rpm=None if is_announced else rpm, tpm=60_000, models=models)
        if is_announced:
            [lease] = await provider.claim(1)
            await provider.use(lease, announced={"rpm": Announced(rpm, left=rpm)})
        for action in steps:
            await history.run(*action)
            assert await provider.running_of("m") <= 4
        history.check(rpm / 60)
