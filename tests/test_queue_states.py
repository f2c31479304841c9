"""Compares the Lua scripts with a model of the scripts, in random histories.

After each step, all data in Redis is compared with the model. In the model, an item can have only
one place and one result. Other properties are asserted in the model's methods.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from math import ceil, floor
from pathlib import Path
from typing import Any, Literal, TypeVar
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
from redis.asyncio.client import Pipeline
from support.claims import POLICY, rate_limited
from support.data_directory import data_directory
from support.health import clock_key, use_clock
from support.histories import histories
from support.script_cost import script_costs
from support.search_depth import FULL

from shared.jobs.store import Store
from shared.jobs.submission import Submission, acceptance
from shared.queue import item_results
from shared.queue.capacity import Capacity, Limits
from shared.queue.claims import Queue
from shared.queue.defaults import INTERACTIVE_WEIGHT
from shared.queue.leases import MAX_WORKER_LOSSES, Lease, Outcome, Settlement
from shared.queue.operator_commands import Operator
from shared.queue.redis_keys import Keys
from shared.redis import embedded
from shared.redis.client import connect

LIMITS = {"a": 3, "b": 2, "c": 4}  # limits of the lanes; no job has items in lane c
SERVED = {"one": "abc", "two": "ac"}  # the lanes that each worker serves
WORKERS = tuple(SERVED)
OWNERS = ("", "ann", "bob")
QUANTUM = 5  # number of items by which an owner or job may get ahead: see fair_share.lua
MAX_COMMANDS = 300  # of one run; test_script_bounds.py has the limits with large amounts of data
HOUR_S = 3600.0  # long enough that nothing expires or becomes due during a test
PAUSE = rate_limited(HOUR_S)

OUTCOMES: tuple[Outcome, ...] = ("complete", "fail", "retry", "release")

T = TypeVar("T")
# A check yields the commands that it has added to a pipeline, and then receives their replies.
Check = Generator[list[Any], list[Any], None]
Scope = tuple[str, str]  # lane and route; the route is "" for the provider's account
Place = Literal["queue", "quarantine", "deferred", "leases", "results", "nowhere"]


@dataclass
class Item:
    job: "Job"
    index: int
    lane: str
    route: str
    place: Place = "queue"
    due: bool = False
    attempts: int = 0
    uncounted: int = 0  # attempts that failed and do not count
    losses: set[str] = field(
        default_factory=set
    )  # ids of the leases that expired without a settlement
    first_us: int = 0  # time of the first claim that failed or lost its worker
    result: bytes = b""
    failed: bool = False

    @property
    def id(self) -> str:
        return f"{self.job.id}:{self.index}"

    @property
    def entry(self) -> str:
        """The item's member in the sorted sets of its lane: see lua/lib/ids.lua."""
        number = self.job.routes(self.lane).index(self.route) + 1
        return self.id if number == 1 else f"{self.id}.{number}"

    def finish(self, result: bytes, *, failed: bool) -> None:
        if self.job.ended:
            self.place = "nowhere"
            return
        self.place, self.result, self.failed = "results", result, failed
        self.job.finished_indexes.append(self.index)


@dataclass
class Job:
    id: str
    owner: str
    interactive: bool
    items: list[Item] = field(default_factory=list)
    finished_indexes: list[int] = field(default_factory=list)
    error_code: str | None = None
    started: bool = False
    overdue: bool = False
    latency_ms: float = 0

    @property
    def kind(self) -> str:
        return "interactive" if self.interactive else "bulk"

    @property
    def ended(self) -> bool:
        return self.error_code is not None or len(self.finished_indexes) == len(self.items)

    def routes(self, lane: str) -> list[str]:
        return list(dict.fromkeys(item.route for item in self.items if item.lane == lane))

    def end_early(self, error_code: str) -> None:
        if not self.ended:
            self.error_code = error_code
            for item in self.items:
                if item.place == "queue":
                    item.place = "nowhere"


@dataclass
class Held:
    """A lease in Redis. Its slot stays used even after the item's job has ended."""

    lease: Lease
    worker: str
    item: Item
    expired: bool = False  # whether the lease has expired and no script has reclaimed it


def claim_us(lease: Lease) -> int:
    return lease.lease_id.claimed_us


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
        self.jobs: dict[str, Job] = {}
        self.shares: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        self.held: dict[str, Held] = {}
        self.spent: list[Lease] = []
        self.paused: set[Scope] = set()
        self.refused: dict[str, str] = {}  # lane → route that was refused latest
        self.waiting: dict[Scope, set[tuple[str, str]]] = defaultdict(set)  # jobs and routes
        self.alive: set[str] = set()  # workers that have renewed their leases
        self.hungry: set[tuple[str, str]] = set()  # workers and lanes: see worker_part.lua
        self.active: dict[str, int] = {}  # score of each lane in the index: see active_lanes.lua

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
        job = Job(f"job{len(self.jobs)}", owner, interactive)
        job.items = [Item(job, index, *place) for index, place in enumerate(places)]
        self._accept(job)
        self.jobs[job.id] = job
        for lane, _ in places:
            for route in job.routes(lane):
                self._enqueue(job, lane, route)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def accept_again(self, data: st.DataObject) -> None:
        """Accepts a job again: a client repeats its upload if the first reply was lost."""
        self._accept(self._some_job(data))

    @rule(worker=st.sampled_from(WORKERS), free_slots=st.integers(0, 20))
    def claim(self, worker: str, free_slots: int) -> None:
        self._settle_and_claim([], worker, free_slots)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), worker=st.sampled_from([*WORKERS, None]), free_slots=st.integers(1, 4))
    def settle(self, data: st.DataObject, worker: str | None, free_slots: int) -> None:
        some = st.lists(st.sampled_from(list(self.held)), min_size=1, max_size=3, unique=True)
        settlements = [
            Settlement(
                self.held[lease_id].lease,
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

    @precondition(lambda self: self.spent)
    @rule(data=st.data(), outcome=st.sampled_from(["complete", "fail", "retry", "release"]))
    def settle_too_late(self, data: st.DataObject, outcome: Any) -> None:
        """Settles an expired or settled lease, which only removes a counted worker loss."""
        lease = data.draw(st.sampled_from(self.spent))
        item = self._item(lease)
        settlement = Settlement(lease, outcome, b"late", delay_s=HOUR_S, fault=PAUSE)
        before = self._dump()

        self.run(self.queue.settle_and_claim([settlement], None))

        after = self._dump()
        if lease.lease_id in item.losses:
            item.losses.remove(lease.lease_id)
            key = self.keys.attempts(item.job.id).encode()
            assert before.pop(key) != after.pop(key)
        if not any(job.overdue for job in self.jobs.values()):
            assert before == after
        self._end_overdue_jobs()

    @precondition(lambda self: self.held)
    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def renew(self, worker: str, data: st.DataObject) -> None:
        """Renews leases; some of them may have expired or been settled."""
        mine = [held for held in self.held.values() if held.worker == worker]
        lost = data.draw(st.lists(st.sampled_from(self.spent), max_size=2)) if self.spent else []

        stop = self.run(self.queue.renew(worker, [*(held.lease for held in mine), *lost]))

        self.alive.add(worker)
        for held in mine:
            held.expired = False
        gone = [held.lease for held in mine if held.item.job.ended]
        assert stop == {lease.lease_id for lease in (*gone, *lost)}

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = self._some_job(data)

        assert self.run(self.store.cancel(job.id, job.owner))

        job.end_early("cancelled")

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def deadline_passes(self, data: st.DataObject) -> None:
        job = self._some_job(data)
        self._put(self.keys.job_deadlines, job.id)
        job.overdue = not job.ended

    @rule()
    def expire_overdue(self) -> None:
        self.run(self.queue.expire_overdue())
        self._end_overdue_jobs()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def lease_expires(self, data: st.DataObject) -> None:
        self._expire_lease(data.draw(st.sampled_from(list(self.held.values()))))

    @precondition(lambda self: self.held)
    @rule(times=st.integers(1, 3))
    def workers_are_lost(self, times: int) -> None:
        for _ in range(times):
            for held in self.held.values():
                self._expire_lease(held)
            for worker in WORKERS:
                self._settle_and_claim([], worker, 6)

    @precondition(lambda self: self._items("deferred"))
    @rule()
    def retries_are_due(self) -> None:
        for item in self._items("deferred"):
            self._put(self.keys.deferred(item.lane), item.entry)
            item.due = True

    @precondition(lambda self: self.paused)
    @rule()
    def a_person_resumes_the_lanes(self) -> None:
        for lane in {lane for lane, _ in self.paused}:
            resumed = self.run(Operator(self.redis, self.keys).resume(lane))
            scopes = {scope for of_lane, scope in self.paused if of_lane == lane}
            assert set(resumed) == {f"{lane}/{scope}" if scope else lane for scope in scopes}
        self.paused.clear()
        self.refused.clear()

    # The model: what each rule must change

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
        mine = [h for h in self.held.values() if h.worker == worker]
        settled = {settlement.lease.lease_id for settlement in settlements}
        mine = [held for held in mine if held.lease.lease_id not in settled]
        running = Counter(held.lease.lane for held in mine)
        quarantined = sum(held.lease.quarantined for held in mine)
        served = {lane: LIMITS[lane] for lane in SERVED[worker]} if worker else {}
        capacity = (
            Capacity(Limits(served), running, free_slots, quarantined, worker) if worker else None
        )

        claimed = self.run(self.queue.settle_and_claim(settlements, capacity)).leases

        self._end_overdue_jobs()
        for settlement in settlements:
            self._settle_in_model(settlement)
        expected = self._claim_in_model(str(worker), served, running, free_slots, quarantined)
        assert [lease.item_id for lease in claimed] == [item.id for item in expected]
        for lease, item in zip(claimed, expected, strict=True):
            assert (lease.attempts, lease.worker_losses) == (item.attempts, len(item.losses))
            since_us = claim_us(lease) - item.first_us if item.first_us else 0
            assert lease.retried_ms == since_us / 1000
            assert lease.payload == item.id.encode()
            assert not item.job.ended
            assert lease.lease_id not in {old.lease_id for old in self.spent}
            self.held[lease.lease_id] = Held(lease, str(worker), item)

    def _settle_in_model(self, settlement: Settlement) -> None:
        held = self._release(settlement.lease.lease_id)
        item = held.item
        if settlement.fault:
            self._refuse(item.lane, item.route)
        if settlement.outcome in {"complete", "fail"}:
            item.finish(settlement.result, failed=settlement.outcome == "fail")
            if item.place == "results":
                item.job.latency_ms += settlement.latency_ms
            return
        if settlement.outcome == "retry" and not item.job.ended:
            if settlement.fault:
                item.uncounted += 1
            else:
                item.attempts += 1
            item.losses = set()
            item.first_us = item.first_us or claim_us(settlement.lease)
        if (
            settlement.outcome == "retry"
            and settlement.delay_s
            and not settlement.fault
            and not item.job.ended
        ):
            item.place, item.due = "deferred", False
        else:
            self._requeue(item)

    def _refuse(self, lane: str, route: str) -> None:
        """Pauses the route, or the account if another of its routes is paused."""
        if self.refused.get(lane, route) != route:
            self.paused.add((lane, ""))
        else:
            self.paused.add((lane, route))
            self.refused[lane] = route

    def _blocking(self, lane: str, route: str) -> Scope | None:
        return next((s for s in ((lane, ""), (lane, route)) if s in self.paused), None)

    def _resume(self, lane: str) -> None:
        for scope in [scope for scope in self.waiting if scope[0] == lane]:
            if scope in self.paused:
                continue
            for job_id, route in self.waiting.pop(scope):
                job = self.jobs[job_id]
                if any((i.place, i.lane, i.route) == ("queue", lane, route) for i in job.items):
                    self._join(job, lane, route)

    def _requeue(self, item: Item) -> None:
        if item.job.ended:
            item.place = "nowhere"
        elif len(item.losses) >= MAX_WORKER_LOSSES - 1:
            item.place = "quarantine"
        else:
            item.place = "queue"
            self._enqueue(item.job, item.lane, item.route)

    def _enqueue(self, job: Job, lane: str, route: str) -> None:
        self.active.setdefault(lane, 0)
        self._join(job, lane, route)

    def _join(self, job: Job, lane: str, route: str) -> None:
        path: tuple[str, ...] = (lane,)
        last = [route] if len(job.routes(lane)) > 1 else []
        for child in (job.owner, job.kind, job.id):
            shares = self.shares[path]
            shares.setdefault(child, min(shares.values(), default=0))
            path = (*path, child)
        for child in last:
            first = self._first(job, lane, child)
            self.shares[path][child] = min(first, self.shares[path].get(child, first))

    def _first(self, job: Job, lane: str, route: str) -> int:
        """Returns the index of the first item in a queue, or 0 if there is none."""
        place = ("queue", lane, route)
        found = (i.index for i in job.items if (i.place, i.lane, i.route) == place)
        return min(found, default=0)

    def _end_overdue_jobs(self) -> None:
        for job in self.jobs.values():
            if job.overdue:
                job.end_early("deadline_exceeded")
            job.overdue = False

    def _claim_in_model(
        self,
        worker: str,
        served: dict[str, int],
        running: Counter[str],
        free_slots: int,
        quarantined: int,
    ) -> list[Item]:
        if not free_slots:
            return []
        order = sorted(self.active, key=lambda lane: (self.active[lane], lane))
        latest = order[-1:]
        score = max(self.active.values(), default=0)
        allowed = {}
        for lane in order:
            if lane in served:
                room = self._prepare(lane, served[lane])
                allowed[lane] = room or 0
                if room == 0:
                    self._note_hunger(worker, lane, running[lane], free_slots)
        hungry = self.hungry.copy()
        ready = [lane for lane in allowed if allowed[lane] > 0]
        slots = free_slots + running.total()
        reserve = max(1, slots // (4 * len(ready))) if ready else 0
        others = reserve if len(ready) < len(served) else 0  # the reserve of the lanes not ready
        admitted: list[Item] = []
        for lane in ready:
            kept = others + sum(
                max(0, reserve - running[other]) for other in ready if other != lane
            )
            slots_for_lane = max(free_slots - kept, 0 if running[lane] else min(1, free_slots))
            part = allowed[lane]
            if any(other != worker and of == lane for other, of in hungry):
                part = min(part, max(0, self._part(lane) - running[lane]))
            room = max(0, min(part, slots_for_lane))
            runs = self._take_quarantined(lane) if room and not quarantined else []
            quarantined += len(runs)
            runs += self._take((lane,), room - len(runs))
            # Whatever the fair order is, no item waits while a slot is free.
            waiting = [
                item
                for item in self._items("queue")
                if item.lane == lane and not self._blocking(lane, item.route)
            ]
            assert len(runs) == room or not waiting
            for item in runs:
                item.job.started = True
            if runs and (latest != [lane] or score == 0):
                latest, score = [lane], score + 1
                self.active[lane] = score
            running[lane] += len(runs)
            free_slots -= len(runs)
            if len(runs) == allowed[lane] and (self.shares[(lane,)] or self._quarantined(lane)):
                self._note_hunger(worker, lane, running[lane], free_slots)
            admitted += runs
        return admitted

    def _part(self, lane: str) -> int:
        return ceil(LIMITS[lane] / max(1, len(self.alive)))

    def _note_hunger(self, worker: str, lane: str, running: int, free_slots: int) -> None:
        if free_slots and running < self._part(lane):
            self.hungry.add((worker, lane))
        elif free_slots and running < LIMITS[lane]:
            self.hungry.discard((worker, lane))

    def _prepare(self, lane: str, limit: int) -> int | None:
        """Reclaims items.

        Returns how many items the lane's limit allows to start, or None if no item may start.
        """
        self._reclaim(lane)
        self._resume(lane)
        leased = sum(held.lease.lane == lane for held in self.held.values())
        parked = [item for item in self._items("deferred") if item.lane == lane]
        if not self.shares[(lane,)] and not self._quarantined(lane):
            if not leased and not parked and not any(s[0] == lane for s in self.waiting):
                del self.active[lane]
            return None
        return None if (lane, "") in self.paused else limit - leased

    def _quarantined(self, lane: str) -> list[Item]:
        return [item for item in self._items("quarantine") if item.lane == lane]

    def _take_quarantined(self, lane: str) -> list[Item]:
        for item in self._quarantined(lane):
            if self._blocking(lane, item.route):
                continue
            item.place = "nowhere" if item.job.ended else "leases"
            if item.place == "leases":
                return [item]
        return []

    def _take(self, path: tuple[str, ...], wanted: int) -> list[Item]:
        """Takes up to `wanted` items in the fair order: see fair_share.lua."""
        taken: list[Item] = []
        shares = self.shares[path]
        while len(taken) < wanted and shares:
            least, *others = sorted(shares, key=lambda child: (shares[child], child))
            weight = INTERACTIVE_WEIGHT if len(path) == 2 and least == "interactive" else 1
            share = wanted - len(taken)
            if others and len(path) < 4:
                ahead = 1 if len(path) == 2 else QUANTUM
                share = min(share, floor((shares[others[0]] - shares[least]) * weight) + ahead)
            if len(path) < 3 or (len(path) == 3 and len(self.jobs[least].routes(path[0])) > 1):
                got = self._take((*path, least), share)
            else:
                job_id = path[3] if len(path) == 4 else least
                route = least if len(path) == 4 else self.jobs[job_id].routes(path[0])[0]
                before = shares[others[0]] if others and len(path) == 4 else None
                got = self._claim_from(path[0], job_id, route, share, before)
            if len(path) == 4 and got:
                place = (least, path[0], "queue")
                left = [
                    i.index for i in self.jobs[path[3]].items if (i.route, i.lane, i.place) == place
                ]
                if left:
                    shares[least] = min(left)
                else:
                    del shares[least]
            elif not got or (len(got) < share and not others):
                del shares[least]
            elif others:
                shares[least] += len(got) / weight
            taken += got
        return taken

    def _claim_from(
        self, lane: str, job_id: str, route: str, wanted: int, before: float | None
    ) -> list[Item]:
        if scope := self._blocking(lane, route):
            self.waiting[scope].add((job_id, route))
            return []
        queued = self._items("queue")
        place = (job_id, lane, route)
        got = [
            item
            for item in queued
            if (item.job.id, item.lane, item.route) == place
            and (before is None or item.index < before)
        ][:wanted]
        for item in got:
            item.place = "leases"
        return got

    def _reclaim(self, lane: str) -> None:
        for lease_id in sorted(self.held):
            if self.held[lease_id].lease.lane == lane and self.held[lease_id].expired:
                held = self._release(lease_id)
                item = held.item
                if not item.job.ended:
                    item.losses.add(lease_id)
                    item.first_us = item.first_us or claim_us(held.lease)
                if len(item.losses) == MAX_WORKER_LOSSES:
                    item.finish(item_results.WORKER_LOST.to_json(), failed=True)
                else:
                    self._requeue(item)
        for item in self._items("deferred"):
            if item.lane == lane and item.due:
                self._requeue(item)

    @invariant()
    def each_run_of_a_script_is_short(self) -> None:
        assert max(self.costs.commands, default=0) <= MAX_COMMANDS
        self.costs.commands.clear()

    @invariant()
    def redis_equals_the_model(self) -> None:
        self.run(self._compare())

    async def _compare(self) -> None:
        """Compares all data with the model, in few round trips, because this runs at each step."""
        for job in self.jobs.values():
            await self._compare_snapshot(job)
        pipe = self.redis.pipeline(transaction=False)
        checks = [
            *(self._compare_lane(pipe, lane, limit) for lane, limit in LIMITS.items()),
            *(self._compare_shares(pipe, path) for path in self.shares),
            *(self._compare_job(pipe, job) for job in self.jobs.values()),
            *(self._compare_owner(pipe, owner) for owner in OWNERS),
            self._compare_expirations(pipe),
            self._compare_active_lanes(pipe),
            self._compare_waiting(pipe),
            self._compare_hungry(pipe),
        ]
        commands = [next(check) for check in checks]
        replies = iter(await pipe.execute())
        for check, asked in zip(checks, commands, strict=True):
            with suppress(StopIteration):
                check.send([next(replies) for _ in asked])

    def _compare_lane(self, pipe: Pipeline, lane: str, limit: int) -> Check:
        parked = {"quarantine": self.keys.quarantine, "deferred": self.keys.deferred}
        depth, leases, *members = yield [
            pipe.hgetall(self.keys.depth(lane)),
            pipe.zrange(self.keys.leases(lane), 0, -1),
            *(pipe.zrange(key(lane), 0, -1) for key in parked.values()),
        ]
        for place, found in zip(parked, members, strict=True):
            expected = {item.entry for item in self._items(place) if item.lane == lane}
            assert {item.decode() for item in found} == expected
        leases = {lease.decode() for lease in leases}
        assert leases == {h.lease.lease_id for h in self.held.values() if h.lease.lane == lane}
        assert len(leases) <= limit
        queued = Counter(i.job.owner for i in self._items("queue") if i.lane == lane)
        assert {owner.decode(): int(count) for owner, count in depth.items()} == queued

    def _compare_shares(self, pipe: Pipeline, path: tuple[str, ...]) -> Check:
        [stored] = yield [pipe.zrange(self.keys.fair_queue(*path), 0, -1, withscores=True)]
        assert {child.decode(): service for child, service in stored} == self.shares[path]

    def _compare_owner(self, pipe: Pipeline, owner: str) -> Check:
        lists = (self.keys.jobs_by_owner(owner), self.keys.batches_by_owner(owner))
        owned, batches = yield [pipe.zrange(key, 0, -1) for key in lists]
        mine = [job for job in self.jobs.values() if job.owner == owner]
        assert [job_id.decode() for job_id in owned] == [job.id for job in mine]
        bulk = [job.id for job in mine if not job.interactive]
        assert [job_id.decode() for job_id in batches] == bulk

    def _compare_expirations(self, pipe: Pipeline) -> Check:
        [expiring] = yield [pipe.zrange(self.keys.job_expirations, 0, -1)]
        ended = [job for job in self.jobs.values() if job.ended]
        assert {e.decode() for e in expiring} == {f"{job.owner} {job.id}" for job in ended}

    def _compare_active_lanes(self, pipe: Pipeline) -> Check:
        [stored] = yield [pipe.zrange(self.keys.active_lanes, 0, -1, withscores=True)]
        active = {lane.decode(): score for lane, score in stored}
        places = ("queue", "quarantine", "deferred")
        assert active.keys() >= {item.lane for place in places for item in self._items(place)}
        assert active.keys() >= {held.lease.lane for held in self.held.values()}
        assert active == self.active

    def _compare_hungry(self, pipe: Pipeline) -> Check:
        [found] = yield [pipe.zrange(self.keys.hungry, 0, -1)]
        assert {tuple(entry.decode().split(" ")) for entry in found} == self.hungry

    def _compare_waiting(self, pipe: Pipeline) -> Check:
        scopes = [(lane, scope) for lane in LIMITS for scope in ("", "m", "n")]
        found = yield [
            *(pipe.zrange(self.keys.waiting(*scope), 0, -1) for scope in scopes),
            *(pipe.zrange(self.keys.blocked(lane), 0, -1) for lane in LIMITS),
        ]
        for (lane, scope), members in zip(scopes, found, strict=False):
            expected = {
                f"{job_id} {self.jobs[job_id].routes(lane).index(route) + 1}"
                for job_id, route in self.waiting.get((lane, scope), ())
            }
            assert {member.decode() for member in members} == expected
        for lane, blocked in zip(LIMITS, found[len(scopes) :], strict=True):
            expected = {scope for waited, scope in self.waiting if waited == lane}
            extra = {scope.decode() for scope in blocked} - expected
            assert {scope.decode() for scope in blocked} >= expected
            assert extra <= {
                route for item in self._quarantined(lane) for route in ("", item.route)
            }
        # No queue is lost: each queue with items is in the tree, or waits for a scope.
        for item in self._items("queue"):
            path = (item.lane, item.job.owner, item.job.kind)
            leaf = (item.job.id, item.route)
            waits = any(leaf in queues for s, queues in self.waiting.items() if s[0] == item.lane)
            assert waits or item.job.id in self.shares[path]

    async def _compare_snapshot(self, job: Job) -> None:
        snapshot = await self.store.snapshot(job.id, job.owner)
        assert snapshot is not None
        assert snapshot.results is not None
        stored = {i: result.partition(b" ")[2] for i, result in snapshot.results.items()}
        results = {i.index: i.result for i in job.items if i.place == "results"}
        assert stored == results
        assert await self.store.completion_order(job.id, 0, 10) == job.finished_indexes
        waiting = sum(i.place in {"queue", "quarantine", "deferred"} for i in job.items)
        assert (snapshot.queued, snapshot.finished) == (waiting, len(results))
        assert snapshot.failed == sum(item.failed for item in job.items)
        assert snapshot.latency_ms == job.latency_ms
        assert (snapshot.started_ms is not None) == job.started
        assert (snapshot.finished_ms is not None) == job.ended
        assert snapshot.finished_early_as == job.error_code

    def _compare_job(self, pipe: Pipeline, job: Job) -> Check:
        kinds = (
            *(self.keys.job, self.keys.results, self.keys.completion_order),
            *(self.keys.failed, self.keys.payloads, self.keys.attempts),
        )
        queues = [(lane, job.id, route) for lane in LIMITS for route in "mn"]
        prompts, attempts, *found = yield [
            pipe.hkeys(self.keys.payloads(job.id)),
            pipe.hgetall(self.keys.attempts(job.id)),
            *(pipe.zrange(self.keys.queue(*queue), 0, -1) for queue in queues),
            *(pipe.ttl(kind(job.id)) for kind in kinds),
        ]
        for (lane, _, route), indexes in zip(queues, found, strict=False):
            queued = [
                item.index
                for item in job.items
                if (item.place, item.lane, item.route) == ("queue", lane, route)
            ]
            assert [int(index) for index in indexes] == queued
        for kind, kept_s in zip(kinds, found[len(queues) :], strict=True):
            # -1: the key has no time to live, because the job has not ended; -2: there is no key
            assert (kept_s == -1) == (not job.ended) or kept_s == -2, kind
        kept = [i.index for i in job.items if i.place != "results" or i.failed]
        assert sorted(map(int, prompts)) == kept
        for item in job.items:
            stored, *losses = attempts.get(str(item.index).encode(), b"0@0").decode().split(" ")
            uncounted = f"+{item.uncounted}" if item.uncounted else ""
            assert stored == f"{item.attempts}{uncounted}@{item.first_us}"
            assert {f"{item.entry}@{claim}" for claim in losses} == item.losses

    # Helpers

    def _items(self, place: str) -> list[Item]:
        """Returns the items with this place, in the order of acceptance."""
        return [item for job in self.jobs.values() for item in job.items if item.place == place]

    def _item(self, lease: Lease) -> Item:
        return self.jobs[lease.job_id].items[lease.item_id.request_index]

    def _some_job(self, data: st.DataObject) -> Job:
        return self.jobs[data.draw(st.sampled_from(list(self.jobs)))]

    def _release(self, lease_id: str) -> Held:
        held = self.held.pop(lease_id)
        self.spent.append(held.lease)
        return held

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
