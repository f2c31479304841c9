"""The Lua scripts against a model of them, through random histories.

After each step everything in Redis is compared with the model, in which an item has one place and
one result by construction; what is not evident there is asserted where it happens.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from uuid import uuid4

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared import results
from shared.keys import Keys
from shared.queue import MAX_DEATHS, Capacity, Lease, Queue, Settlement
from shared.redis import connect

LIMITS = {"a": 3, "b": 2}
WORKERS = ("one", "two")
HOUR_MS = 3_600_000.0  # nothing ends by itself

T = TypeVar("T")
Place = Literal["queue", "quarantine", "deferred", "leases", "results"]


@dataclass
class Item:
    id: str
    lane: str
    accepted: int  # its place in line
    place: Place = "queue"
    due: bool = False
    attempts: int = 0
    deaths: set[str] = field(default_factory=set)  # the leases that ended so
    result: bytes = b""

    def wait(self) -> None:
        self.place = "quarantine" if len(self.deaths) >= MAX_DEATHS - 1 else "queue"

    def end(self, result: bytes) -> None:
        self.place, self.result = "results", result


@dataclass
class Held:
    """A lease that Redis knows; the item of a cancelled job has ended, and still takes the slot."""

    lease: Lease
    worker: str
    item: Item
    ended: bool = False  # nobody has noticed yet


class Scripts(RuleBasedStateMachine):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.keys = Keys(f"states-{uuid4().hex}:")
        self.redis = connect(url)
        self.queue = Queue(self.redis, self.keys, lease_s=HOUR_MS / 1000)
        self.jobs: dict[str, list[Item]] = {}
        self.cancelled: set[str] = set()
        self.held: dict[str, Held] = {}
        self.spent: list[Lease] = []
        self.paused: set[str] = set()

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
        self.loop.close()

    # What happens

    @rule(lanes=st.lists(st.sampled_from("ab"), min_size=1, max_size=5))
    def accept(self, lanes: list[str]) -> None:
        job_id, line = f"job{len(self.jobs)}", sum(map(len, self.jobs.values()))
        self._accept(job_id, lanes)
        self.jobs[job_id] = [
            Item(f"{job_id}:{index:05}", lane, line + index) for index, lane in enumerate(lanes)
        ]

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def accept_again(self, data: st.DataObject) -> None:
        """As when the first reply was lost."""
        job_id = data.draw(st.sampled_from(list(self.jobs)))
        self._accept(job_id, [item.lane for item in self.jobs[job_id]])

    @rule(worker=st.sampled_from(WORKERS), places=st.integers(0, 6), reserve=st.integers(0, 2))
    def claim(self, worker: str, places: int, reserve: int) -> None:
        self._exchange([], worker, places, reserve)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), worker=st.sampled_from([*WORKERS, None]), places=st.integers(1, 4))
    def settle(self, data: st.DataObject, worker: str | None, places: int) -> None:
        some = st.lists(st.sampled_from(list(self.held)), min_size=1, max_size=3, unique=True)
        settlements = [
            Settlement(
                self.held[lease_id].lease,
                data.draw(st.sampled_from(["end", "retry", "return"])),
                result=f"answer to {lease_id}".encode(),
                delay_ms=data.draw(st.sampled_from([0.0, HOUR_MS])),
                pause_ms=data.draw(st.sampled_from([0.0] * 9 + [HOUR_MS])),
            )
            for lease_id in data.draw(some)
        ]
        self._exchange(settlements, worker, places, 0)

    @precondition(lambda self: self.spent)
    @rule(data=st.data(), verb=st.sampled_from(["end", "retry", "return"]))
    def settle_too_late(self, data: st.DataObject, verb: Any) -> None:
        """It changes nothing, but that what was taken for a death was none."""
        lease = data.draw(st.sampled_from(self.spent))
        [item] = [i for i in self.jobs[lease.job_id] if i.id == lease.item_id]
        settlement = Settlement(lease, verb, b"late", delay_ms=HOUR_MS, pause_ms=HOUR_MS)
        before = self._dump()

        self.run(self.queue.exchange([settlement], None))

        after = self._dump()
        if lease.lease_id in item.deaths and item.place != "results":
            item.deaths.remove(lease.lease_id)
            key = self.keys.item(item.id).encode()
            assert before.pop(key) != after.pop(key)
        assert before == after

    @precondition(lambda self: self.held)
    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def renew(self, worker: str, data: st.DataObject) -> None:
        """A worker may believe to hold leases that it has lost."""
        mine = [held for held in self.held.values() if held.worker == worker]
        lost = data.draw(st.lists(st.sampled_from(self.spent), max_size=2)) if self.spent else []

        stop = self.run(self.queue.renew(worker, [*(held.lease for held in mine), *lost]))

        for held in mine:
            held.ended = False
        gone = [held.lease for held in mine if held.item.place == "results"]
        assert stop == {lease.lease_id for lease in (*gone, *lost)}

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(list(self.jobs)))
        unfinished = [item for item in self.jobs[job_id] if item.place != "results"]

        assert self.run(self.queue.cancel(job_id))

        for item in unfinished:
            item.end(results.CANCELLED)
        self.cancelled |= {job_id} if unfinished else set()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def lease_ends(self, data: st.DataObject) -> None:
        self._end_lease(data.draw(st.sampled_from(list(self.held.values()))))

    @precondition(lambda self: self.held)
    @rule(times=st.integers(1, 3))
    def workers_die(self, times: int) -> None:
        for _ in range(times):
            for held in self.held.values():
                self._end_lease(held)
            for worker in WORKERS:
                self._exchange([], worker, 6, 0)

    @precondition(lambda self: self._items("deferred"))
    @rule()
    def retries_are_due(self) -> None:
        for item in self._items("deferred"):
            self._put(self.keys.deferred(item.lane), item.id)
            item.due = True

    @precondition(lambda self: self.paused)
    @rule()
    def pause_ends(self) -> None:
        self.run(self.redis.delete(*map(self.keys.paused, self.paused)))
        self.paused.clear()

    # What must follow

    def _accept(self, job_id: str, lanes: list[str]) -> None:
        payloads = [(lane, f"{job_id} {index}".encode()) for index, lane in enumerate(lanes)]
        self.run(self.queue.accept(job_id, payloads, meta=b"", ttl_s=3600, max_depth=10_000))

    def _exchange(
        self, settlements: list[Settlement], worker: str | None, places: int, reserve: int
    ) -> None:
        mine = [h for h in self.held.values() if h.worker == worker]
        settled = {settlement.lease.lease_id for settlement in settlements}
        mine = [held for held in mine if held.lease.lease_id not in settled]
        running = Counter(held.lease.lane for held in mine)
        quarantined = sum(held.lease.quarantined for held in mine)
        capacity = Capacity(LIMITS, running, places, reserve, quarantined) if worker else None

        claimed = self.run(self.queue.exchange(settlements, capacity)).leases

        for settlement in settlements:
            self._settled(settlement)
        expected = self._admitted(running, places, reserve, quarantined) if worker else []
        assert [lease.item_id for lease in claimed] == [item.id for item in expected]
        for lease, item in zip(claimed, expected, strict=True):
            assert (lease.attempts, lease.deaths) == (item.attempts, len(item.deaths))
            assert lease.payload == item.id.replace(":0000", " ").encode()
            assert lease.job_id not in self.cancelled
            assert lease.lease_id not in {old.lease_id for old in self.spent}
            self.held[lease.lease_id] = Held(lease, str(worker), item)

    def _settled(self, settlement: Settlement) -> None:
        held = self._release(settlement.lease.lease_id)
        if settlement.pause_ms:
            self.paused.add(held.lease.lane)
        if held.item.place == "results":
            return
        if settlement.verb == "end":
            held.item.end(settlement.result)
            return
        if settlement.verb == "retry":
            held.item.attempts, held.item.deaths = held.item.attempts + 1, set()
        if settlement.verb == "retry" and settlement.delay_ms:
            held.item.place, held.item.due = "deferred", False
        else:
            held.item.wait()

    def _admitted(
        self, running: Counter[str], places: int, reserve: int, quarantined: int
    ) -> list[Item]:
        admitted: list[Item] = []
        for lane, limit in LIMITS.items():
            self._take_back(lane)
            taken = sum(held.lease.lane == lane for held in self.held.values())
            kept = sum(max(0, reserve - running[other]) for other in LIMITS if other != lane)
            room = 0 if lane in self.paused else max(0, min(limit - taken, places - kept))
            first = [i for i in self._items("quarantine") if i.lane == lane][: 1 - quarantined]
            waiting = [item for item in self._items("queue") if item.lane == lane]
            runs = [*first, *waiting][:room]
            quarantined += sum(item.place == "quarantine" for item in runs)
            for item in runs:
                item.place = "leases"
            running[lane] += len(runs)
            places -= len(runs)
            admitted += runs
        return admitted

    def _take_back(self, lane: str) -> None:
        for lease_id, held in list(self.held.items()):
            if held.lease.lane == lane and held.ended:
                item = self._release(lease_id).item
                if item.place == "results":
                    continue
                item.deaths.add(lease_id)
                item.wait()
                if len(item.deaths) == MAX_DEATHS:
                    item.end(results.WORKER_LOST)
        for item in self._items("deferred"):
            if item.lane == lane and item.due:
                item.wait()

    @invariant()
    def everything_is_where_the_model_has_it(self) -> None:
        self.run(self._compare())

    async def _compare(self) -> None:
        for lane, limit in LIMITS.items():
            for place, key in (
                ("queue", self.keys.queue),
                ("quarantine", self.keys.quarantine),
                ("deferred", self.keys.deferred),
            ):
                found = [item.decode() for item in await self.redis.zrange(key(lane), 0, -1)]
                modelled = [item.id for item in self._items(place) if item.lane == lane]
                assert (
                    sorted(found) == sorted(modelled) if place == "deferred" else found == modelled
                )
            leases = {
                lease.decode() for lease in await self.redis.zrange(self.keys.leases(lane), 0, -1)
            }
            assert leases == {h.lease.lease_id for h in self.held.values() if h.lease.lane == lane}
            assert len(leases) <= limit
        for job_id, items in self.jobs.items():
            snapshot = await self.queue.snapshot(job_id)
            assert snapshot is not None
            stored = {index: result for index, (_, result) in snapshot.results.items()}
            ended = {i: item.result for i, item in enumerate(items) if item.place == "results"}
            assert stored == ended
            assert snapshot.running == sum(item.place == "leases" for item in items)
            assert ("finished_ms" in snapshot.fields) == (len(ended) == len(items))
            assert ("cancelled_ms" in snapshot.fields) == (job_id in self.cancelled)
            exist = [await self.redis.exists(self.keys.item(item.id)) for item in items]
            assert exist == [item.place != "results" for item in items]

    # Looking and poking

    def _items(self, place: str) -> list[Item]:
        items = (item for job in self.jobs.values() for item in job if item.place == place)
        return sorted(items, key=lambda item: item.accepted)

    def _release(self, lease_id: str) -> Held:
        held = self.held.pop(lease_id)
        self.spent.append(held.lease)
        return held

    def _end_lease(self, held: Held) -> None:
        self._put(self.keys.leases(held.lease.lane), held.lease.lease_id)
        held.ended = True

    def _put(self, key: str, member: str) -> None:
        """In a zset, to a time that is over."""
        self.run(self.redis.zadd(key, {member: 1}, xx=True))

    def _dump(self) -> dict[bytes, bytes | None]:
        async def dump() -> dict[bytes, bytes | None]:
            found = [key async for key in self.redis.scan_iter(f"{self.keys.prefix}*")]
            return {key: await self.redis.dump(key) for key in found}

        return self.run(dump())


def test_every_history_of_the_scripts(valkey_url: str) -> None:
    run_state_machine_as_test(
        lambda: Scripts(valkey_url),  # type: ignore[arg-type]
        settings=settings(
            max_examples=150,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
