"""Tests that a repeated live call joins the call that runs, and calls whose client disconnects."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.authentication import ANN, API_KEYS, BOB
from support.claims import accept, claim, finish
from support.in_process import running_worker, served_api
from support.live_calls import CHAT, PATH
from support.providers import combined
from support.stack import eventually

from cli.simulator import Simulator
from shared.jobs.store import Store
from shared.providers import PROVIDERS, Catalogue
from shared.queue.claims import Queue
from shared.queue.leases import Settlement
from shared.queue.redis_keys import Keys
from shared.settings import ProviderSettings, Settings

REPEATED = {"x-stainless-retry-count": "1"}


@pytest.fixture
def catalogue(providers: dict[str, ProviderSettings]) -> Catalogue:
    return combined({name: PROVIDERS[name] for name in providers}, providers).catalogue


@pytest.fixture
async def served(settings: Settings, catalogue: Catalogue) -> AsyncIterator[httpx.AsyncClient]:
    async with served_api(settings, catalogue) as client:
        yield client


async def jobs(redis: ArqRedis, keys: Keys, count: int) -> list[str]:
    """Returns the ids of all jobs, when there are `count`."""

    async def reached() -> bool:
        return bool(await redis.zcard(keys.jobs_by_owner("")) == count)

    await eventually(reached)
    return [job.decode() for job in await redis.zrange(keys.jobs_by_owner(""), 0, -1)]


async def joined(redis: ArqRedis, keys: Keys, job_id: str, count: int) -> None:
    """Waits until that many more clients wait for the job."""

    async def reached() -> bool:
        return int(await redis.hget(keys.job(job_id), "joined") or 0) == count  # type: ignore[misc]

    await eventually(reached)


async def test_a_repetition_joins_the_call_that_runs(
    served: httpx.AsyncClient,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    simulator: Simulator,
    redis: ArqRedis,
    keys: Keys,
) -> None:
    first = asyncio.create_task(served.post(PATH, json=CHAT))
    [job_id] = await jobs(redis, keys, 1)
    second = asyncio.create_task(served.post(PATH, json=CHAT, headers=REPEATED))
    await joined(redis, keys, job_id, 1)
    first.cancel()
    await joined(redis, keys, job_id, 0)

    async with running_worker(settings, providers):
        answer = await second
        again = await served.post(PATH, json=CHAT, headers=REPEATED)  # its answer may be lost

    assert answer.headers["location"] == again.headers["location"] == f"/jobs/{job_id}"
    assert answer.content == again.content
    assert len(simulator.received()) == 1


async def test_only_a_repetition_joins_and_each_joins_another_call(
    served: httpx.AsyncClient,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    keys: Keys,
) -> None:
    async def post(headers: dict[str, str] | None = None) -> str:
        return (await served.post(PATH, json=CHAT, headers=headers)).headers["location"]

    firsts = [asyncio.create_task(post()) for _ in range(2)]
    ids = await jobs(redis, keys, 2)
    again = [asyncio.create_task(post(REPEATED)) for _ in range(2)]
    for job_id in ids:
        await joined(redis, keys, job_id, 1)
    other = asyncio.create_task(served.post(PATH, json={**CHAT, "seed": 1}, headers=REPEATED))
    await jobs(redis, keys, 3)

    async with running_worker(settings, providers):
        answered = [await asyncio.gather(*calls) for calls in (firsts, again)]
        assert (await other).status_code == 200

    assert sorted(answered[0]) == sorted(answered[1]) == [f"/jobs/{i}" for i in sorted(ids)]


async def test_a_call_of_another_owner_is_not_joined(
    settings: Settings, catalogue: Catalogue, redis: ArqRedis, keys: Keys
) -> None:
    with_keys = Settings(_env_file=None, api_keys=API_KEYS).api_keys
    async with served_api(settings.model_copy(update={"api_keys": with_keys}), catalogue) as client:
        calls = [
            asyncio.create_task(
                client.post(PATH, json=CHAT, headers={**REPEATED, "authorization": f"Bearer {key}"})
            )
            for key in (ANN, BOB)
        ]

        async def has_both() -> bool:
            counts = [await redis.zcard(keys.jobs_by_owner(owner)) for owner in ("ann", "bob")]
            return counts == [1, 1]

        await eventually(has_both)
        for call in calls:
            call.cancel()


async def test_the_calls_that_can_be_joined_are_limited(
    store: Store, queue: Queue, redis: ArqRedis, keys: Keys
) -> None:
    live: dict[str, Any] = {"is_live": True, "body_digest": "d"}
    for number in range(102):
        await accept(store, f"j{number}", "a", **live)
    live_calls = keys.live_calls("", "d")

    assert await redis.llen(live_calls) == 100  # type: ignore[misc]
    assert await accept(store, "again", "a", **live, is_repetition=True) == "j2"
    assert await accept(store, "again", "a", **live, is_repetition=True) == "j3"

    await redis.ltrim(live_calls, 0, 0)  # type: ignore[misc]
    await finish(queue, await claim(queue, a=200))
    assert 0 < await redis.ttl(live_calls) <= 15


async def test_the_repetition_of_a_failed_call_joins_no_call_of_another_client(
    store: Store, queue: Queue
) -> None:
    """Two clients send the same body, and want two answers. One call fails and is repeated."""
    live: dict[str, Any] = {"is_live": True, "body_digest": "d"}
    await accept(store, "runs", "a", **live)
    await accept(store, "fails", "a", **live)
    [fails] = [lease for lease in await claim(queue, a=2) if lease.job_id == "fails"]
    await queue.settle_and_claim([Settlement(fails, "fail", b"{}")], None)

    assert await accept(store, "repeats", "a", **live, is_repetition=True) == "repeats"
    assert await accept(store, "joins", "a", **live, is_repetition=True) == "runs"


@pytest.mark.usefixtures("worker")
async def test_a_failed_call_is_made_again(served: httpx.AsyncClient, simulator: Simulator) -> None:
    body = {**CHAT, "model": "openrouter/sim-400x1"}

    first = await served.post(PATH, json=body)
    second = await served.post(PATH, json=body, headers=REPEATED)

    assert (first.status_code, second.status_code) == (400, 200)
    assert len(simulator.received()) == 2


async def test_a_client_that_disconnects_cancels_its_call(
    served: httpx.AsyncClient, redis: ArqRedis, keys: Keys
) -> None:
    first = asyncio.create_task(served.post(PATH, json=CHAT))
    [job_id] = await jobs(redis, keys, 1)
    first.cancel()

    async def is_abandoned() -> bool:
        return bool(await redis.hexists(keys.job(job_id), "abandoned_until_ms"))  # type: ignore[misc]

    await eventually(is_abandoned)
    second = asyncio.create_task(served.post(PATH, json=CHAT))

    async def is_taken() -> bool:
        return not await is_abandoned()

    await eventually(is_taken)
    second.cancel()
    await eventually(is_abandoned)
    assert await redis.zcard(keys.jobs_by_owner("")) == 1
