"""Tests an API and a worker that keep running while Redis is unavailable, full or read-only."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.in_process import running_api, running_worker
from support.redis_server import Server
from support.stack import chat, eventually, queued, stored

from cli.simulator import Simulator
from shared.queue.redis_keys import Keys
from shared.redis.client import RedisUnavailable
from shared.settings import ProviderSettings, Settings


@pytest.fixture
def settings(settings: Settings, server: Server) -> Settings:
    return settings.model_copy(update={"redis_url": server.url})


async def post(client: httpx.AsyncClient, *contents: str, mode: str = "sync") -> httpx.Response:
    requests = [
        chat(content, provider=("openrouter", "ollama")[i % 2])
        for i, content in enumerate(contents)
    ]
    return await client.post("/batch", json={"requests": requests}, params={"mode": mode})


async def dump_jobs(server: Server, keys: Keys) -> dict[str, Any]:
    """Returns every key of jobs with its value."""
    return {key: await server.client.dump(key) for key in await stored(server.client, keys)}


def works(client: httpx.AsyncClient) -> Callable[[], Any]:
    async def answers() -> bool:
        answer = await post(client, "works", "again")
        return bool(answer.status_code == 200 and answer.json()["successful"] == 2)

    return answers


async def wait_for_answers(client: httpx.AsyncClient, location: str) -> list[str]:
    """Waits until the job has completed. Returns the contents of its answers."""
    status: dict[str, Any] = {}

    async def completed() -> bool:
        answer = await client.get(location)
        status.update(answer.json())
        return answer.status_code == 200 and status["status"] == "completed"

    await eventually(completed)
    return [response["content"] for response in status["responses"]]


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert list(answer.json()) == ["detail"]


@pytest.mark.usefixtures("worker")
async def test_requests_get_503_while_redis_is_unavailable(
    api: httpx.AsyncClient, server: Server, keys: Keys
) -> None:
    await eventually(works(api))
    before = await dump_jobs(server, keys)
    await server.kill()

    started = time.monotonic()
    refused = await post(api, "x", "y")
    job = await api.get("/jobs/x")
    cancelled = await api.delete("/jobs/x")
    ready = await api.get("/health/ready")
    took_s = time.monotonic() - started

    assert_unavailable(refused)
    assert_unavailable(job)
    assert_unavailable(cancelled)
    assert ready.status_code == 503
    assert took_s < 4 * 3
    await server.start()
    assert await dump_jobs(server, keys) == before
    await eventually(works(api))


async def test_processes_start_while_redis_is_unavailable(
    settings: Settings, providers: dict[str, ProviderSettings], server: Server
) -> None:
    await server.kill()
    async with running_worker(settings, providers), running_api(settings) as client:
        assert_unavailable(await post(client, "x"))
        await server.start()
        await eventually(works(client))


async def test_accepted_items_survive_a_crash_of_redis(
    settings: Settings,
    providers: dict[str, ProviderSettings],
    api: httpx.AsyncClient,
    server: Server,
) -> None:
    accepted = await post(api, *[f"{i}" for i in range(20)], mode="async")
    await server.kill()
    await server.start()

    async with running_worker(settings, providers):
        contents = await wait_for_answers(api, accepted.headers["location"])

    assert contents == [f"echo: {i}" for i in range(20)]


async def test_a_waiting_client_gets_its_answer_after_a_restart_of_redis(
    settings: Settings,
    providers: dict[str, ProviderSettings],
    api: httpx.AsyncClient,
    server: Server,
    simulator: Simulator,
) -> None:
    requests = [chat(f"{i}", model="sim-latency-400") for i in range(6)]
    changed = settings.model_copy(update={"max_concurrent_requests": 3})
    async with running_worker(changed, providers):
        waiting = asyncio.create_task(api.post("/batch", json={"requests": requests}))

        async def called() -> bool:
            return bool(simulator.stats()["in_flight"] == 3)

        await eventually(called)
        await server.kill()
        await server.start()
        async with asyncio.timeout(15):
            answer = await waiting

    assert answer.status_code == 200
    assert [r["content"] for r in answer.json()["responses"]] == [f"echo: {i}" for i in range(6)]
    assert simulator.stats()["peak"] <= 3


async def test_a_waiting_client_gets_the_job_url_if_redis_stays_unavailable(
    settings: Settings,
    providers: dict[str, ProviderSettings],
    api: httpx.AsyncClient,
    server: Server,
    keys: Keys,
) -> None:
    waiting = asyncio.create_task(
        api.post("/batch", json={"requests": [chat("x")]}, headers={"Prefer": "wait=1"})
    )

    async def accepted() -> bool:
        return bool(await queued(server.client, keys))

    await eventually(accepted)
    await server.kill()
    answer = await waiting
    await server.start()

    assert_unavailable(answer)
    async with running_worker(settings, providers):
        assert await wait_for_answers(api, answer.headers["location"]) == ["echo: x"]


async def test_a_full_redis_refuses_jobs_but_completes_accepted_jobs(
    settings: Settings,
    providers: dict[str, ProviderSettings],
    api: httpx.AsyncClient,
    server: Server,
    keys: Keys,
) -> None:
    accepted = await post(api, *[f"{i}" for i in range(10)], mode="async")
    other = await post(api, "not wanted", mode="async")
    before = await dump_jobs(server, keys)
    await server.client.config_set("maxmemory", "1mb")

    refused = await post(api, "x", "y", mode="async")

    assert_unavailable(refused)
    assert await dump_jobs(server, keys) == before
    assert (await api.delete(other.headers["location"])).json()["status"] == "cancelled"
    async with running_worker(settings, providers):
        assert await wait_for_answers(api, accepted.headers["location"]) == [
            f"echo: {i}" for i in range(10)
        ]
        await server.client.config_set("maxmemory", "0")
        await eventually(works(api))


@pytest.mark.usefixtures("worker")
async def test_a_read_only_redis_refuses_jobs_until_it_is_writable(
    api: httpx.AsyncClient, server: Server, keys: Keys
) -> None:
    await eventually(works(api))
    before = await dump_jobs(server, keys)
    await server.command("REPLICAOF", "127.0.0.1", "1")

    refused = await post(api, "x", "y")
    cancelled = await api.delete("/jobs/x")

    assert_unavailable(refused)
    assert_unavailable(cancelled)
    assert await dump_jobs(server, keys) == before
    await server.command("REPLICAOF", "NO", "ONE")
    await eventually(works(api))


async def test_requests_get_503_within_seconds_while_redis_does_not_answer(
    api: httpx.AsyncClient, server: Server
) -> None:
    await post(api, "connects", mode="async")
    await server.command("CLIENT", "PAUSE", "60000", "WRITE")

    started = time.monotonic()
    refused = await post(api, "x")
    took_s = time.monotonic() - started

    assert_unavailable(refused)
    assert took_s < 10


async def test_a_connection_that_closes_before_a_command_is_not_a_bug(
    redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop, which the processes use, raises a RuntimeError for a closed transport."""
    await redis.ping()
    [connection] = redis.connection_pool._available_connections  # noqa: SLF001
    message = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"

    def writelines(_chunks: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(connection._writer, "writelines", writelines)  # noqa: SLF001

    with pytest.raises(RedisUnavailable, match="was closed"):
        await redis.ping()
    assert await redis.ping()
