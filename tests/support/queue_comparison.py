"""Compares all data in Redis with the model of the queue."""

from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from shared.jobs.store import Store
from shared.queue.redis_keys import Keys
from support.queue_model import LIMITS, QueueModel
from support.queue_model_items import Job

OWNERS = ("", "ann", "bob")

# A check yields the commands that it has added to a pipeline, and then receives their replies.
Check = Generator[list[Any], list[Any], None]


class Comparison:
    def __init__(self, model: QueueModel, redis: Redis, keys: Keys) -> None:
        self.model, self.redis, self.keys = model, redis, keys
        self.store = Store(redis, keys)

    async def run(self) -> None:
        """Compares all data with the model, in few round trips, because this runs at each step."""
        for job in self.model.jobs.values():
            await self._compare_snapshot(job)
        pipe = self.redis.pipeline(transaction=False)
        checks = [
            *(self._compare_lane(pipe, lane, limit) for lane, limit in LIMITS.items()),
            *(self._compare_shares(pipe, path) for path in self.model.shares),
            *(self._compare_job(pipe, job) for job in self.model.jobs.values()),
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
            expected = {item.entry for item in self.model.items(place) if item.lane == lane}
            assert {item.decode() for item in found} == expected
        leases = {lease.decode() for lease in leases}
        assert leases == {
            h.lease.lease_id for h in self.model.held.values() if h.lease.lane == lane
        }
        assert len(leases) <= limit
        queued = Counter(i.job.owner for i in self.model.items("queue") if i.lane == lane)
        assert {owner.decode(): int(count) for owner, count in depth.items()} == queued

    def _compare_shares(self, pipe: Pipeline, path: tuple[str, ...]) -> Check:
        [stored] = yield [pipe.zrange(self.keys.fair_queue(*path), 0, -1, withscores=True)]
        assert {child.decode(): service for child, service in stored} == self.model.shares[path]

    def _compare_owner(self, pipe: Pipeline, owner: str) -> Check:
        lists = (self.keys.jobs_by_owner(owner), self.keys.batches_by_owner(owner))
        owned, batches = yield [pipe.zrange(key, 0, -1) for key in lists]
        mine = [job for job in self.model.jobs.values() if job.owner == owner]
        assert [job_id.decode() for job_id in owned] == [job.id for job in mine]
        bulk = [job.id for job in mine if not job.interactive]
        assert [job_id.decode() for job_id in batches] == bulk

    def _compare_expirations(self, pipe: Pipeline) -> Check:
        [expiring] = yield [pipe.zrange(self.keys.job_expirations, 0, -1)]
        ended = [job for job in self.model.jobs.values() if job.ended]
        assert {e.decode() for e in expiring} == {f"{job.owner} {job.id}" for job in ended}

    def _compare_active_lanes(self, pipe: Pipeline) -> Check:
        [stored] = yield [pipe.zrange(self.keys.active_lanes, 0, -1, withscores=True)]
        active = {lane.decode(): score for lane, score in stored}
        places = ("queue", "quarantine", "deferred")
        assert active.keys() >= {item.lane for place in places for item in self.model.items(place)}
        assert active.keys() >= {held.lease.lane for held in self.model.held.values()}
        assert active == self.model.active

    def _compare_hungry(self, pipe: Pipeline) -> Check:
        [found] = yield [pipe.zrange(self.keys.hungry, 0, -1)]
        assert {tuple(entry.decode().split(" ")) for entry in found} == self.model.hungry

    def _compare_waiting(self, pipe: Pipeline) -> Check:
        scopes = [(lane, scope) for lane in LIMITS for scope in ("", "m", "n")]
        found = yield [
            *(pipe.zrange(self.keys.waiting(*scope), 0, -1) for scope in scopes),
            *(pipe.zrange(self.keys.blocked(lane), 0, -1) for lane in LIMITS),
        ]
        for (lane, scope), members in zip(scopes, found, strict=False):
            expected = {
                f"{job_id} {self.model.jobs[job_id].routes(lane).index(route) + 1}"
                for job_id, route in self.model.waiting.get((lane, scope), ())
            }
            assert {member.decode() for member in members} == expected
        for lane, blocked in zip(LIMITS, found[len(scopes) :], strict=True):
            expected = {scope for waited, scope in self.model.waiting if waited == lane}
            extra = {scope.decode() for scope in blocked} - expected
            assert {scope.decode() for scope in blocked} >= expected
            assert extra <= {
                route for item in self.model.quarantined(lane) for route in ("", item.route)
            }
        # No queue is lost: each queue with items is in the tree, or waits for a scope.
        for item in self.model.items("queue"):
            path = (item.lane, item.job.owner, item.job.kind)
            leaf = (item.job.id, item.route)
            waits = any(
                leaf in queues for s, queues in self.model.waiting.items() if s[0] == item.lane
            )
            assert waits or item.job.id in self.model.shares[path]

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
