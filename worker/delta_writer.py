"""Sends the events of a streamed answer to Redis, in parts, while the answer arrives."""

import asyncio
from types import TracebackType
from typing import Self

from shared.queue.deltas import Deltas
from shared.redis.client import RETRY_INTERVAL_S, RedisUnavailable
from worker.outcomes import Attempt

PART_S = 0.03  # time for which events are collected; the first event is sent immediately


class DeltaWriter:
    """Sends added events to Redis while an `async with` block runs.

    The end of the block waits until all events are sent. Events are dropped if the call was stopped
    or its lease has ended. If Redis is unavailable, the events wait until it is available. They
    wait at most until the lease expires, because the call is then stopped.
    """

    def __init__(self, deltas: Deltas, attempt: Attempt) -> None:
        self._deltas = deltas
        self._attempt = attempt
        self._waiting = bytearray()
        self._sending = b""  # part that Redis has not confirmed
        self._position = 0  # number of the parts that Redis has confirmed
        self._has_events = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._is_over = False  # the lease or the job has ended, so no client reads further events

    @property
    def has_begun(self) -> bool:
        """Returns whether a client may have got an event."""
        return self._writing is not None

    def add(self, events: bytes) -> None:
        self._waiting += events
        self._has_events.set()
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_forever())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writing is None:
            return
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)
        if kind is not None and not issubclass(kind, Exception):
            return  # the call was stopped
        if self._sending:
            await self._write()
        await self._write(is_last=True)

    async def _write_forever(self) -> None:
        while True:
            await self._has_events.wait()
            self._has_events.clear()
            await self._write()
            await asyncio.sleep(PART_S)

    async def _write(self, *, is_last: bool = False) -> None:
        if not self._sending:
            self._sending = bytes(self._waiting)
            self._waiting.clear()
        while not self._is_over:
            try:
                is_appended = await self._deltas.append(
                    self._attempt.lane,
                    self._attempt.lease_id,
                    self._sending,
                    position=self._position,
                    is_last=is_last,
                )
            except RedisUnavailable:
                await asyncio.sleep(RETRY_INTERVAL_S)  # until the lease ends
            else:
                self._is_over = not is_appended
                self._position += 1
                break
        self._sending = b""
