"""Compares the Lua scripts with a model of the scripts, in random histories.

After each step, all data in Redis is compared with the model: see support/queue_model.py. Other
properties are asserted in the model's methods.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.claims import POLICY, rate_limited
from support.data_directory import data_directory
from support.health import clock_key, use_clock
from support.histories import histories
from support.queue_comparison import OWNERS, Comparison
from support.queue_model import LIMITS, QueueModel
from support.queue_model_items import Held, Item, Job, claim_us
from support.script_cost import script_costs
from support.search_depth import FULL

from shared.jobs.store import Store
from shared.jobs.submission import Submission, acceptance
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.leases import Settlement, SettlementOutcome
from shared.queue.operator_commands import Operator
from shared.queue.redis_keys import Keys
from shared.redis import embedded
from shared.redis.client import connect

SERVED = {"one": "abc", "two": "ac"}  # the lanes that each worker serves
WORKERS = tuple(SERVED)
MAX_COMMANDS = 300  # of one run; test_script_bounds.py has the limits with large amounts of data
HOUR_S = 3600.0  # long enough that nothing expires or becomes due during a test
PAUSE = rate_limited(HOUR_S)

OUTCOMES: tuple[SettlementOutcome, ...] = ("complete", "fail", "retry", "release")

T = TypeVar("T")


class Scripts(RuleBasedStateMachine):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.exits = ExitStack()
        self.keys = Keys(f"states-{uuid4().hex}:")
        # No time passes in a history, however long it takes on a busy machine.
        use_clock(self.exits.enter_context(pytest.MonkeyPatch.context()), self.keys)
        self.redis = connect(url)
        self.costs = self.exits.enter_context(script_costs(self.redis))
        self.queue = Queue(self.redis, self.keys, lease_s=HOUR_S)
        self.store = Store(self.redis, self.keys)
        self.model = QueueModel()
        self.comparison = Comparison(self.model, self.redis, self.keys)

    def run(self, call: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await call

        return self.loop.run(awaited())

    def teardown(self) -> None:
        async def clean() -> None:
            async for key in self.redis.scan_iter(f"{self.keys.prefix}*"):
                await self.redis.delete(key)
            await self.redis.aclose()

        self.run(clean())
        self.exits.close()
        self.loop.close()

    # Rules: events that may happen in any order

    @rule(
        places=st.lists(
            st.tuples(st.sampled_from("ab"), st.sampled_from("mmn")), min_size=1, max_size=5
        ),
        owner=st.sampled_from(OWNERS),
        interactive=st.booleans(),
    )
    def accept(self, places: list[tuple[str, str]], owner: str, *, interactive: bool) -> None:
        job = Job(f"job{len(self.model.jobs)}", owner, interactive)
        job.items = [Item(job, index, *place) for index, place in enumerate(places)]
        self._accept(job)
        self.model.jobs[job.id] = job
        for lane, _ in places:
            for route in job.routes(lane):
                self.model.enqueue(job, lane, route)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def accept_again(self, data: st.DataObject) -> None:
        """Accepts a job again: a client repeats its upload if the first reply was lost."""
        self._accept(self._some_job(data))

    @rule(worker=st.sampled_from(WORKERS), free_slots=st.integers(0, 20))
    def claim(self, worker: str, free_slots: int) -> None:
        self._settle_and_claim([], worker, free_slots)

    @precondition(lambda self: self.model.held)
    @rule(data=st.data(), worker=st.sampled_from([*WORKERS, None]), free_slots=st.integers(1, 4))
    def settle(self, data: st.DataObject, worker: str | None, free_slots: int) -> None:
        some = st.lists(st.sampled_from(list(self.model.held)), min_size=1, max_size=3, unique=True)
        settlements = [
            Settlement(
                self.model.held[lease_id].lease,
                outcome := data.draw(st.sampled_from(OUTCOMES)),
                result=f"answer to {lease_id}".encode(),
                latency_ms=data.draw(st.sampled_from([0.0, 0.25, 1500.0])),
                delay_s=data.draw(st.sampled_from([0.0, HOUR_S])),
                fault=data.draw(st.sampled_from([None] * 5 + [PAUSE]))
                if outcome in {"fail", "retry"}
                else None,
            )
            for lease_id in data.draw(some)
        ]
        self._settle_and_claim(settlements, worker, free_slots)

    @precondition(lambda self: self.model.spent)
    @rule(data=st.data(), outcome=st.sampled_from(["complete", "fail", "retry", "release"]))
    def settle_too_late(self, data: st.DataObject, outcome: Any) -> None:
        """Settles an expired or settled lease, which only removes a counted worker loss."""
        lease = data.draw(st.sampled_from(self.model.spent))
        item = self.model.item(lease)
        settlement = Settlement(lease, outcome, b"late", delay_s=HOUR_S, fault=PAUSE)
        before = self._dump()

        self.run(self.queue.settle_and_claim([settlement], None))

        after = self._dump()
        if lease.lease_id in item.losses:
            item.losses.remove(lease.lease_id)
            key = self.keys.attempts(item.job.id).encode()
            assert before.pop(key) != after.pop(key)
        if not any(job.overdue for job in self.model.jobs.values()):
            assert before == after
        self.model.end_overdue_jobs()

    @precondition(lambda self: self.model.held)
    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def renew(self, worker: str, data: st.DataObject) -> None:
        """Renews leases; some of them may have expired or been settled."""
        mine = [held for held in self.model.held.values() if held.worker == worker]
        lost = (
            data.draw(st.lists(st.sampled_from(self.model.spent), max_size=2))
            if self.model.spent
            else []
        )

        stop = self.run(self.queue.renew(worker, [*(held.lease for held in mine), *lost]))

        self.model.alive.add(worker)
        for held in mine:
            held.expired = False
        gone = [held.lease for held in mine if held.item.job.ended]
        assert stop == {lease.lease_id for lease in (*gone, *lost)}

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = self._some_job(data)

        assert self.run(self.store.cancel(job.id, job.owner))

        job.end_early("cancelled")

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def deadline_passes(self, data: st.DataObject) -> None:
        job = self._some_job(data)
        self._put(self.keys.job_deadlines, job.id)
        job.overdue = not job.ended

    @rule()
    def expire_overdue(self) -> None:
        self.run(self.queue.expire_overdue())
        self.model.end_overdue_jobs()

    @precondition(lambda self: self.model.held)
    @rule(data=st.data())
    def lease_expires(self, data: st.DataObject) -> None:
        self._expire_lease(data.draw(st.sampled_from(list(self.model.held.values()))))

    @precondition(lambda self: self.model.held)
    @rule(times=st.integers(1, 3))
    def workers_are_lost(self, times: int) -> None:
        for _ in range(times):
            for held in self.model.held.values():
                self._expire_lease(held)
            for worker in WORKERS:
                self._settle_and_claim([], worker, 6)

    @precondition(lambda self: self.model.items("deferred"))
    @rule()
    def retries_are_due(self) -> None:
        for item in self.model.items("deferred"):
            self._put(self.keys.deferred(item.lane), item.entry)
            item.due = True

    @precondition(lambda self: self.model.paused)
    @rule()
    def a_person_resumes_the_lanes(self) -> None:
        for lane in {lane for lane, _ in self.model.paused}:
            resumed = self.run(Operator(self.redis, self.keys).resume(lane))
            scopes = {scope for of_lane, scope in self.model.paused if of_lane == lane}
            assert set(resumed) == {f"{lane}/{scope}" if scope else lane for scope in scopes}
        self.model.paused.clear()
        self.model.refused.clear()

    # What the rules do in Redis, and then in the model

    def _accept(self, job: Job) -> None:
        submission = Submission(
            owner=job.owner,
            interactive=job.interactive,
            deadline_s=HOUR_S,
        )

        async def upload() -> None:
            async with self.store.staging(job.id) as staging:
                for item in job.items:
                    await staging.add(item.lane, item.id.encode(), (None, item.lane, item.route))
                assert await staging.commit(acceptance(submission, POLICY)) == job.id

        self.run(upload())

    def _settle_and_claim(
        self, settlements: list[Settlement], worker: str | None, free_slots: int
    ) -> None:
        mine = [h for h in self.model.held.values() if h.worker == worker]
        settled = {settlement.lease.lease_id for settlement in settlements}
        mine = [held for held in mine if held.lease.lease_id not in settled]
        running = Counter(held.lease.lane for held in mine)
        quarantined = sum(held.lease.quarantined for held in mine)
        served = {lane: LIMITS[lane] for lane in SERVED[worker]} if worker else {}
        capacity = (
            Capacity(Limits(served), running, free_slots, quarantined, worker) if worker else None
        )

        claimed = self.run(self.queue.settle_and_claim(settlements, capacity)).leases

        self.model.end_overdue_jobs()
        for settlement in settlements:
            self.model.settle(settlement)
        expected = self.model.claim(str(worker), served, running, free_slots, quarantined)
        assert [lease.item_id for lease in claimed] == [item.id for item in expected]
        for lease, item in zip(claimed, expected, strict=True):
            assert (lease.attempts, lease.worker_losses) == (item.attempts, len(item.losses))
            since_us = claim_us(lease) - item.first_us if item.first_us else 0
            assert lease.retried_ms == since_us / 1000
            assert lease.payload == item.id.encode()
            assert not item.job.ended
            assert lease.lease_id not in {old.lease_id for old in self.model.spent}
            self.model.held[lease.lease_id] = Held(lease, str(worker), item)

    @invariant()
    def each_run_of_a_script_is_short(self) -> None:
        assert max(self.costs.commands, default=0) <= MAX_COMMANDS
        self.costs.commands.clear()

    @invariant()
    def redis_equals_the_model(self) -> None:
        self.run(self.comparison.run())

    # Helpers

    def _some_job(self, data: st.DataObject) -> Job:
        return self.model.jobs[data.draw(st.sampled_from(list(self.model.jobs)))]

    def _expire_lease(self, held: Held) -> None:
        self._put(self.keys.leases(held.lease.lane), held.lease.lease_id)
        held.expired = True

    def _put(self, key: str, member: str) -> None:
        """Moves the time of a sorted set's member into the past."""
        self.run(self.redis.zadd(key, {member: 1}, xx=True))

    def _dump(self) -> dict[bytes, bytes | None]:
        async def dump() -> dict[bytes, bytes | None]:
            # The scripts note the time of a round now and then, whatever the round does.
            clocks = (self.keys.clock("").encode(), clock_key(self.keys).encode())
            keys = self.redis.scan_iter(f"{self.keys.prefix}*")
            found = [key async for key in keys if not key.startswith(clocks)]
            return {key: await self.redis.dump(key) for key in found}

        return self.run(dump())


@pytest.fixture
def own_url() -> Iterator[str]:
    """Starts a server for this file, because it counts commands."""
    with data_directory() as directory:
        server = embedded.use(Path(directory))
        yield server.url
        server.release()


@pytest.mark.no_cover  # counting would double its time, and other tests run the same lines
def test_every_history_of_the_scripts(own_url: str) -> None:
    run_state_machine_as_test(
        lambda: Scripts(own_url),  # type: ignore[arg-type]
        settings=settings(
            # Four deliberate bugs in the scripts were found after 15, 22, 29 and 87 histories.
            histories(60, full=1000),
            stateful_step_count=40,
            # To shrink a history takes up to 5 minutes.
            phases=[Phase.generate, *([Phase.shrink] if FULL else [])],
        ),
    )
