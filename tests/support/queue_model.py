"""Models the queue: the place of each item, and what each script must change.

In the model, an item can have only one place and one result.
"""

from collections import Counter, defaultdict
from math import ceil, floor

from shared.queue import item_results
from shared.queue.leases import MAX_WORKER_LOSSES, Lease, Settlement
from shared.queue.setting_defaults import INTERACTIVE_WEIGHT
from support.queue_model_items import Held, Item, Job, claim_us

LIMITS = {"a": 3, "b": 2, "c": 4}  # limits of the lanes; no job has items in lane c
QUANTUM = 5  # number of items by which an owner or job may get ahead: see fair_share.lua

Scope = tuple[str, str]  # lane and route; the route is "" for the provider's account


class QueueModel:
    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.shares: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        self.held: dict[str, Held] = {}
        self.spent: list[Lease] = []
        self.paused: set[Scope] = set()
        self.refused: dict[str, str] = {}  # lane → route that was refused latest
        self.waiting: dict[Scope, set[tuple[str, str]]] = defaultdict(set)  # jobs and routes
        self.alive: set[str] = set()  # workers that have renewed their leases
        self.hungry: set[tuple[str, str]] = set()  # workers and lanes: see worker_share.lua
        self.active: dict[str, int] = {}  # score of each lane in the index: see active_lanes.lua

    def items(self, place: str) -> list[Item]:
        """Returns the items with this place, in the order of acceptance."""
        return [item for job in self.jobs.values() for item in job.items if item.place == place]

    def item(self, lease: Lease) -> Item:
        return self.jobs[lease.job_id].items[lease.item_id.request_index]

    def quarantined(self, lane: str) -> list[Item]:
        return [item for item in self.items("quarantine") if item.lane == lane]

    def enqueue(self, job: Job, lane: str, route: str) -> None:
        self.active.setdefault(lane, 0)
        self._join(job, lane, route)

    def settle(self, settlement: Settlement) -> None:
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

    def end_overdue_jobs(self) -> None:
        for job in self.jobs.values():
            if job.overdue:
                job.end_early("deadline_exceeded")
            job.overdue = False

    def claim(
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
                for item in self.items("queue")
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
            if len(runs) == allowed[lane] and (self.shares[(lane,)] or self.quarantined(lane)):
                self._note_hunger(worker, lane, running[lane], free_slots)
            admitted += runs
        return admitted

    def _release(self, lease_id: str) -> Held:
        held = self.held.pop(lease_id)
        self.spent.append(held.lease)
        return held

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
            self.enqueue(item.job, item.lane, item.route)

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
        parked = [item for item in self.items("deferred") if item.lane == lane]
        if not self.shares[(lane,)] and not self.quarantined(lane):
            if not leased and not parked and not any(s[0] == lane for s in self.waiting):
                del self.active[lane]
            return None
        return None if (lane, "") in self.paused else limit - leased

    def _take_quarantined(self, lane: str) -> list[Item]:
        for item in self.quarantined(lane):
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
        queued = self.items("queue")
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
        for item in self.items("deferred"):
            if item.lane == lane and item.due:
                self._requeue(item)
