"""Waiting for jobs: one subscription and one slow sweep for all requests of this process."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.channels import listen
from shared.keys import Keys
from shared.queue import Queue

SWEEP_S = 5.0  # should a message have been lost


class Waiting:
    def __init__(self, redis: Redis, keys: Keys, queue: Queue) -> None:
        self._redis = redis
        self._keys = keys
        self._queue = queue
        self._waiting: dict[str, asyncio.Event] = {}
        self._sweep_now = asyncio.Event()
        self._closed = False

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """The event is set when the job is done, or when waiting has no future. Begin before the
        job is submitted, so that no message is missed."""
        event = self._waiting[job_id] = asyncio.Event()
        if self._closed:
            event.set()
        try:
            yield event
        finally:
            del self._waiting[job_id]

    def close(self) -> None:
        """The process stops: whoever waits is to answer with what there is by now."""
        self._closed = True
        for event in self._waiting.values():
            event.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            handlers = {self._keys.done: self._done}
            group.create_task(listen(self._redis, handlers, self._sweep_now.set))
            group.create_task(self._sweep())

    def _done(self, job_id: str) -> None:
        if event := self._waiting.get(job_id):
            event.set()

    async def _sweep(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._sweep_now.wait()
            self._sweep_now.clear()
            with suppress(RedisError, OSError):
                for job_id in await self._queue.finished(list(self._waiting)):
                    self._done(job_id)
