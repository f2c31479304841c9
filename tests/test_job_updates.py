"""Tests that requests can wait for a job, even if messages are lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from fakeredis import FakeAsyncRedis
from support.stack import eventually

from api.streams import job_updates as module
from api.streams.job_updates import JobUpdates
from shared.jobs.store import Store
from shared.queue.redis_keys import Keys


@pytest.fixture
async def server() -> AsyncIterator[FakeAsyncRedis]:
    async with FakeAsyncRedis() as server:
        yield server


@asynccontextmanager
async def running(server: FakeAsyncRedis, keys: Keys) -> AsyncIterator[JobUpdates]:
    updates = JobUpdates(server, keys, Store(server, keys))
    task = asyncio.create_task(updates.run())
    yield updates
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def publish(server: FakeAsyncRedis, keys: Keys, job_id: str) -> None:
    """Publishes the message that the job has completed, as soon as there is a subscriber."""

    async def was_heard() -> bool:
        return bool(await server.publish(keys.job_finished, job_id))

    await eventually(was_heard)


async def finish(server: FakeAsyncRedis, keys: Keys, job_id: str) -> None:
    """Completes the job without publishing a message."""
    pipe = server.pipeline()
    pipe.hset(keys.job(job_id), "finished_ms", "1")
    await pipe.execute()


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(30):
        await event.wait()


async def test_the_message_ends_the_wait(server: FakeAsyncRedis, keys: Keys) -> None:
    async with running(server, keys) as updates:
        with updates.wait_finished("job") as done, updates.wait_finished("other") as other:
            await publish(server, keys, "job")

            await happens(done)

            assert not other.is_set()


async def test_a_job_that_finished_before_the_connection_is_found(
    server: FakeAsyncRedis, keys: Keys
) -> None:
    await finish(server, keys, "job")
    updates = JobUpdates(server, keys, Store(server, keys))
    with updates.wait_finished("job") as done:
        task = asyncio.create_task(updates.run())

        await happens(done)

        task.cancel()


async def test_the_periodic_check_replaces_a_lost_message(
    server: FakeAsyncRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL_S", 0.01)
    async with running(server, keys) as updates:
        await publish(server, keys, "nobody")
        with updates.wait_finished("job") as done:
            await finish(server, keys, "job")

            await happens(done)


async def test_a_shutdown_ends_all_waits(server: FakeAsyncRedis, keys: Keys) -> None:
    async with running(server, keys) as updates:
        with updates.wait_finished("job") as done:
            updates.close()

            with updates.wait_finished("late") as late:
                assert done.is_set()
                assert late.is_set()
