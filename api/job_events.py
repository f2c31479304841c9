"""Tells requests of this process when jobs finish: one subscription and one slow sweep for all."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.jobs.store import Store
from shared.queue.claims import Queue
from shared.queue.keys import Keys
from shared.redis.pubsub import listen

SWEEP_S = 5.0  # should a message have been lost
FOLLOWED_S = 3 * SWEEP_S  # for which progress is published without being asked for again


class Signal(Protocol):
    def set(self) -> None: ...


class ResettableEvent:
    """An `asyncio.Event` for one reader, with a time-out: a third of the size."""

    __slots__ = ("_changed", "_waiter")

    def __init__(self) -> None:
        self._changed = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._changed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout_s: float) -> bool:
        """Was it set since the last time? False when the time is over."""
        if not self._changed:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
        changed, self._changed = self._changed, False
        return changed


Watchers = defaultdict[str, set[Signal]]  # by job


class JobEvents:
    def __init__(self, redis: Redis, keys: Keys, queue: Queue, store: Store) -> None:
        self._redis = redis
        self._keys = keys
        self._queue = queue
        self._store = store
        self._waiting: Watchers = defaultdict(set)
        self._following: Watchers = defaultdict(set)
        self._sweep_now = asyncio.Event()
        self.closed = False

    @contextmanager
    def wait_finished(self, job_id: str) -> Iterator[asyncio.Event]:
        """The event is set when the job is done, or when waiting has no future. Begin before the
        job is submitted, so that no message is missed."""
        event = asyncio.Event()
        self._add(self._waiting, job_id, event)
        try:
            yield event
        finally:
            _remove(self._waiting, job_id, event)

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[ResettableEvent]:
        """Set whenever items of the job may have ended, if its progress is published
        (`Store.follow`), and as for `wait_finished`."""
        changes = ResettableEvent()
        self._add(self._following, job_id, changes)
        try:
            yield changes
        finally:
            _remove(self._following, job_id, changes)

    def _add(self, watchers: Watchers, job_id: str, signal: Signal) -> None:
        watchers[job_id].add(signal)
        if self.closed:
            signal.set()

    def close(self) -> None:
        """The process stops: whoever waits is to answer with what there is by now."""
        self.closed = True
        for watchers in (self._waiting, self._following):
            for job_id in watchers:
                _wake(watchers, job_id)

    async def run(self) -> None:
        """Until cancelled."""
        handlers = {self._keys.done: self._done, self._keys.progress: self._progress}
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(self._redis, handlers, self._connected))
            group.create_task(self._sweep())

    def _connected(self) -> None:
        for job_id in self._following:
            self._progress(job_id)
        self._sweep_now.set()

    def _progress(self, job_id: str) -> None:
        _wake(self._following, job_id)

    def _done(self, job_id: str) -> None:
        _wake(self._waiting, job_id)
        _wake(self._following, job_id)

    async def _sweep(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._sweep_now.wait()
            self._sweep_now.clear()
            with suppress(RedisError, OSError):
                done = await self._store.finished(list(self._waiting))
                done += await self._store.follow(list(self._following), FOLLOWED_S)
                for job_id in done:
                    self._done(job_id)
                await self._queue.expire_overdue()


def _wake(watchers: Watchers, job_id: str) -> None:
    for signal in watchers.get(job_id, ()):
        signal.set()


def _remove(watchers: Watchers, job_id: str, signal: Signal) -> None:
    watchers[job_id].remove(signal)
    if not watchers[job_id]:
        del watchers[job_id]
