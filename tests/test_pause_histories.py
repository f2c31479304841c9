"""Tests what holds in every history of a provider that fails, recovers and fails again.

The claim of items while all scopes are healthy or paused is compared with a model in
test_queue_states.py. A probe is a random item, so here only invariants are checked.
"""

from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from arq.connections import ArqRedis
from hypothesis import given
from hypothesis import strategies as st
from support.health import (
    ANSWERED_500,
    ANSWERED_503,
    DAY_S,
    QUOTA,
    REJECTED,
    UNAUTHORIZED,
    UNFINISHED,
    UNREACHABLE,
    Provider,
    overloaded,
    refused,
    use_clock,
)
from support.histories import histories

from shared.queue.leases import Lease  # noqa: TC001 — used in an annotation at run time
from shared.queue.redis_keys import Keys

# Counting lines would double its time, and other tests run the same lines.
pytestmark = pytest.mark.no_cover

LIMIT = 4
SCOPES = ("", "m", "n")
FAULTS = (
    *(UNREACHABLE, UNAUTHORIZED, QUOTA, ANSWERED_500, ANSWERED_503, ANSWERED_503),
    *(UNFINISHED, REJECTED, overloaded(3), refused(), refused(5)),
    refused(5, covers_account=True),
)

index = st.integers(0, LIMIT - 1)
failure = st.tuples(st.just("fail"), index, st.sampled_from(FAULTS), st.sampled_from([0, 1, None]))
step = st.one_of(
    st.tuples(
        st.just("accept"),
        st.text("mn", min_size=1, max_size=4),
        st.sampled_from(["", "ann"]),
        st.booleans(),
    ),
    st.tuples(st.just("claim"), st.integers(1, 8)),
    st.tuples(st.just("claim"), st.integers(1, 8)),
    failure,
    failure,
    st.tuples(st.sampled_from(["answer", "release"]), index),
    # A lease ends after 15 s, and an interactive item gives up after 30 s.
    st.tuples(st.just("pass_time"), st.sampled_from([0.6, 1.1, 2.1, 16, 31, DAY_S])),
    st.tuples(st.just("set_back"), st.sampled_from([5, 3600])),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
)


class History:
    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.jobs: dict[str, tuple[str, str, str]] = {}  # id → routes, owner, class
        self.leases: list[Lease] = []
        self.earlier: set[str] = set()  # leases from before the clock was set back

    async def run(self, action: str, *arguments: Any) -> None:
        match action, arguments:
            case "accept", (routes, owner, interactive):
                job = await self.provider.accept(*routes, owner=owner, interactive=interactive)
                self.jobs[job] = (routes, owner, "interactive" if interactive else "bulk")
            case "claim", (free_slots,):
                self.leases += await self.provider.claim(
                    LIMIT, free_slots=free_slots, running=len(self.leases)
                )
            case "pass_time", (seconds,):
                await self.provider.pass_time(seconds)
            case "set_back", (seconds,):
                self.earlier = {lease.lease_id for lease in self.leases}
                await self.provider.pass_time(-seconds)
            case "cancel", (number,):
                for job in list(self.jobs)[number : number + 1]:
                    await self.provider.store.cancel(job, self.jobs[job][1])
            case _, (number, *how) if number < len(self.leases):
                lease = self.leases.pop(number)
                if action == "fail":
                    await self.provider.fail(how[0], lease, delay_s=how[1])
                else:
                    await getattr(self.provider, action)(lease)

    async def finish(self) -> None:
        """Lets the provider answer everything. Each item must get its result."""
        for _ in range(20):
            await self.provider.pass_time(61)
            await self.provider.answer(*self.leases)
            self.leases = await self.provider.claim(LIMIT)
        for job, (routes, owner, _) in self.jobs.items():
            snapshot = await self.provider.store.snapshot(job, owner)
            assert snapshot is not None
            assert snapshot.finished_early_as or snapshot.finished == len(routes), job

    async def check(self) -> None:
        leases = [lease.decode() for lease in await self._members(self.provider.keys.leases("a"))]
        assert len(leases) <= LIMIT
        for scope in SCOPES:
            opened_ms = await self.provider.opened_ms(scope)
            probes = [
                lease
                for lease in leases
                if opened_ms is not None
                and lease not in self.earlier
                and scope in {"", self._route(lease)}
                and int(lease.partition("@")[2]) / 1000 >= opened_ms
            ]
            assert len(probes) <= 1, scope
        await self._check_places(leases)

    def _route(self, entry: str) -> str:
        job, _, rest = entry.partition(":")
        return self.jobs[job][0][int(rest.partition("@")[0].partition(".")[0])]

    async def _members(self, key: str) -> list[bytes]:
        members: list[bytes] = await self.provider.redis.zrange(key, 0, -1)
        return members

    async def _check_places(self, leases: list[str]) -> None:
        keys, redis = self.provider.keys, self.provider.redis
        parked = [
            item.decode()
            for key in (keys.quarantine("a"), keys.deferred("a"))
            for item in await self._members(key)
        ]
        places = Counter(entry.partition("@")[0].partition(".")[0] for entry in (*leases, *parked))
        for job, (routes, owner, kind) in self.jobs.items():
            names = list(dict.fromkeys(routes))
            for number, route in enumerate(names, 1):
                queued = await self._members(keys.queue("a", job, route))
                places.update(f"{job}:{int(item)}" for item in queued)
                if queued:
                    path = [owner, kind, job, route][: 4 if len(names) > 1 else 3]
                    is_in_tree = [
                        child.encode() in await self._members(keys.fair_queue("a", *path[:depth]))
                        for depth, child in enumerate(path)
                    ]
                    waits = [
                        scope.encode() in await self._members(keys.blocked("a"))
                        for scope in SCOPES
                        if f"{job} {number}".encode()
                        in await self._members(keys.waiting("a", scope))
                    ]
                    assert all(is_in_tree) or any(waits), (job, route)
                    assert all(waits), (job, route)
            done = await redis.hkeys(keys.results(job))  # type: ignore[misc]
            places.update(f"{job}:{int(item)}" for item in done)
            if not await redis.hexists(keys.job(job), "finished_ms"):  # type: ignore[misc]
                assert [places[f"{job}:{index}"] for index in range(len(routes))] == [1] * len(
                    routes
                )


@given(steps=st.lists(step, min_size=10, max_size=60))
@histories(12, full=1000)
async def test_no_item_is_lost_and_one_call_probes(
    redis: ArqRedis, steps: list[tuple[Any, ...]]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        keys = Keys(f"histories-{uuid4().hex}:")
        use_clock(monkeypatch, keys)
        history = History(Provider(redis, keys, outage_wait_s=DAY_S))
        for action in steps:
            await history.run(*action)
            if action[0] == "claim":
                await history.check()
        await history.finish()
