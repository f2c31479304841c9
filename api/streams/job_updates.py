"""Wakes waiting HTTP requests when jobs end and when items finish.

One subscription to Redis and one periodic check serve all HTTP requests of this process.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from redis.asyncio import Redis

from shared.jobs.store import Store
from shared.queue.redis_keys import Keys
from shared.redis.client import RedisUnavailable
from shared.redis.pubsub import listen

CHECK_INTERVAL_S = 5.0  # a check finds the jobs whose message was lost
# After each check, Redis publishes the progress of a job for this time.
PUBLISH_PROGRESS_S = 3 * CHECK_INTERVAL_S


class Settable(Protocol):
    def set(self) -> None: ...


class ResettableEvent:
    """Wakes one waiter, at the latest after a time-out.

    Takes a third of the memory of an `asyncio.Event`.
    """

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._is_set = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout_s: float) -> None:
        """Waits until the event is set or `timeout_s` has passed, and then resets the event."""
        if not self._is_set:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
        self._is_set = False


Subscriptions = defaultdict[str, set[Settable]]  # the events of each job, by job id


class JobUpdates:
    def __init__(self, redis: Redis, keys: Keys, store: Store) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        # `_waiting` has the events that are set when a job has ended. `_following` has the events
        # that are also set when items of the job finish.
        self._waiting: Subscriptions = defaultdict(set)
        self._following: Subscriptions = defaultdict(set)
        self._check_now = asyncio.Event()
        self.closed = False

    @contextmanager
    def wait_finished(self, job_id: str) -> Iterator[asyncio.Event]:
        """Yields an event that is set when the job has ended, or when this process shuts down.

        Enter the context before the job is submitted, so that no message is missed.
        """
        event = asyncio.Event()
        self._add(self._waiting, job_id, event)
        try:
            yield event
        finally:
            _remove(self._waiting, job_id, event)

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[ResettableEvent]:
        """Yields an event that is set when items of the job may have finished.

        The event is also set when the job has ended, and when this process shuts down. The first
        `Store.follow_progress` or `Submission.follow_s` makes Redis publish the job's progress;
        `run` renews this at each check.
        """
        changes = ResettableEvent()
        self._add(self._following, job_id, changes)
        try:
            yield changes
        finally:
            _remove(self._following, job_id, changes)

    def _add(self, subscriptions: Subscriptions, job_id: str, event: Settable) -> None:
        subscriptions[job_id].add(event)
        if self.closed:
            event.set()

    def close(self) -> None:
        """Sets every event at shutdown, so that waiting requests respond with what they have."""
        self.closed = True
        for subscriptions in (self._waiting, self._following):
            for job_id in subscriptions:
                _notify(subscriptions, job_id)

    async def run(self) -> None:
        """Receives the messages about jobs until cancelled.

        Also looks, each `CHECK_INTERVAL_S`, for jobs whose message was lost.
        """
        handlers = {
            self._keys.job_finished: self._job_finished,
            self._keys.job_progress: self._job_progressed,
        }
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(self._redis, handlers, self._connected))
            group.create_task(self._check_periodically())

    def _connected(self) -> None:
        for job_id in self._following:
            self._job_progressed(job_id)
        self._check_now.set()

    def _job_progressed(self, job_id: str) -> None:
        _notify(self._following, job_id)

    def _job_finished(self, job_id: str) -> None:
        _notify(self._waiting, job_id)
        _notify(self._following, job_id)

    async def _check_periodically(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._check_now.wait()
            self._check_now.clear()
            with suppress(RedisUnavailable):
                finished = await self._store.finished(list(self._waiting))
                finished += await self._store.follow_progress(
                    list(self._following), PUBLISH_PROGRESS_S
                )
                for job_id in finished:
                    self._job_finished(job_id)


def _notify(subscriptions: Subscriptions, job_id: str) -> None:
    for event in subscriptions.get(job_id, ()):
        event.set()


def _remove(subscriptions: Subscriptions, job_id: str, event: Settable) -> None:
    subscriptions[job_id].remove(event)
    if not subscriptions[job_id]:
        del subscriptions[job_id]
