"""Tests clients that vanish while they wait for a batch, and post the same body again."""

import asyncio
import json
import re
import socket
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.authentication import ANN, API_KEYS, BOB
from support.in_process import served_api
from support.jobs import job, wait_completed
from support.reverse_proxy import reverse_proxy
from support.stack import Start, chat, eventually

from shared.queue.redis_keys import Keys
from shared.settings import Settings

BODY = {"requests": [chat("x")]}


async def newest_job(redis: ArqRedis, keys: Keys, owner: str = "") -> str:
    [job_id] = await redis.zrevrange(keys.jobs_by_owner(owner), 0, 0)
    return str(job_id.decode())


async def vanish(
    api: httpx.AsyncClient, redis: ArqRedis, keys: Keys, owner: str = "", **request: Any
) -> str:
    """Posts the batch, and disconnects when the job exists. Returns the job's id when the API has
    noticed."""
    known = await redis.zcard(keys.jobs_by_owner(owner))
    waiting = asyncio.create_task(api.post("/batch", **{"json": BODY, **request}))

    async def is_accepted() -> bool:
        return bool(await redis.zcard(keys.jobs_by_owner(owner)) > known)

    await eventually(is_accepted)
    job_id = await newest_job(redis, keys, owner)
    waiting.cancel()
    await is_abandoned(redis, keys, job_id)
    return job_id


async def is_abandoned(redis: ArqRedis, keys: Keys, job_id: str) -> None:
    async def noticed() -> bool:
        return bool(await redis.hexists(keys.job(job_id), "abandoned_until_ms"))  # type: ignore[misc]

    await eventually(noticed)


async def posted_again(api: httpx.AsyncClient, **request: Any) -> str:
    """Returns the id of the job that the batch gets, without waiting for the job."""
    answer = await api.post("/batch?mode=async", **{"json": BODY, **request})
    assert answer.status_code == 202
    return str(answer.json()["job_id"])


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_the_same_body_at_another_api_is_the_same_job(
    stack: Start, redis: ArqRedis, keys: Keys, accept: str
) -> None:
    deployment = await stack(workers=1)
    second = await deployment.another_api()
    await deployment.simulate(latency_ms=3000)
    headers = {"Accept": accept}

    job_id = await vanish(deployment.api, redis, keys, headers=headers)
    answer = await second.post("/batch", json=BODY, headers=headers)

    assert answer.headers["location"] == f"/jobs/{job_id}"
    assert "echo: x" in answer.text
    assert (await job(second, f"/jobs/{job_id}"))["status"] == "completed"
    assert (await deployment.stats())["total"] == 1


async def test_the_job_may_complete_before_its_client_returns(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=1000)
    job_id = await vanish(deployment.api, redis, keys)
    await wait_completed(deployment.api, f"/jobs/{job_id}")

    answer = await deployment.api.post("/batch", json=BODY)

    assert answer.json()["job_id"] == job_id
    assert answer.json()["responses"][0]["content"] == "echo: x"
    assert (await deployment.stats())["total"] == 1


async def test_a_client_may_vanish_again_and_again(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=0)
    job_id = await vanish(deployment.api, redis, keys)

    async def is_taken() -> bool:
        return not await redis.hexists(keys.job(job_id), "abandoned_until_ms")  # type: ignore[misc]

    for _ in range(3):
        waiting = asyncio.create_task(deployment.api.post("/batch", json=BODY))
        await eventually(is_taken)
        waiting.cancel()
        await is_abandoned(redis, keys, job_id)

    assert await posted_again(deployment.api) == job_id
    assert await redis.zcard(keys.jobs_by_owner("")) == 1


async def test_the_same_body_is_another_job_while_its_client_waits(stack: Start) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=2000)
    both = [asyncio.create_task(deployment.api.post("/batch", json=BODY)) for _ in range(2)]
    await deployment.in_flight(2)

    answers = await asyncio.gather(*both)

    assert len({answer.json()["job_id"] for answer in answers}) == 2
    assert (await deployment.stats())["total"] == 2


async def test_each_of_two_vanished_clients_gets_a_job(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=0)
    clients = [asyncio.create_task(deployment.api.post("/batch", json=BODY)) for _ in range(2)]

    async def are_accepted() -> bool:
        return bool(await redis.zcard(keys.jobs_by_owner("")) == 2)

    await eventually(are_accepted)
    vanished = {found.decode() for found in await redis.zrange(keys.jobs_by_owner(""), 0, -1)}
    for client in clients:
        client.cancel()
    await asyncio.gather(*(is_abandoned(redis, keys, job_id) for job_id in vanished))

    found = [await posted_again(deployment.api) for _ in range(3)]

    assert set(found[:2]) == vanished
    assert found[2] not in vanished


@pytest.mark.parametrize(
    "other",
    [{"json": {"requests": [chat("y")]}}, {"json": {**BODY, "deadline_s": 60}}],
    ids=["request", "option"],
)
async def test_another_body_is_another_job(
    stack: Start, redis: ArqRedis, keys: Keys, other: dict[str, Any]
) -> None:
    deployment = await stack(workers=0)
    job_id = await vanish(deployment.api, redis, keys)

    assert await posted_again(deployment.api, **other) != job_id


async def test_a_key_or_another_owner_is_another_job(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=0, key=ANN, API_KEYS=API_KEYS)
    job_id = await vanish(deployment.api, redis, keys, "ann")

    assert await posted_again(deployment.client(BOB)) != job_id
    assert await posted_again(deployment.api, headers={"Idempotency-Key": "k"}) != job_id
    assert await posted_again(deployment.api) == job_id


async def test_a_cancelled_job_does_not_come_back(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=0)
    job_id = await vanish(deployment.api, redis, keys)
    await deployment.api.delete(f"/jobs/{job_id}")

    assert await posted_again(deployment.api) != job_id


async def test_a_job_whose_client_returns_keeps_its_deadline(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=0, DISCONNECT_GRACE_SECONDS="3")
    body = {**BODY, "deadline_s": 6}
    job_id = await vanish(deployment.api, redis, keys, json=body)

    answer = await deployment.api.post("/batch", json=body)

    assert answer.json()["job_id"] == job_id
    assert answer.json()["responses"][0]["error_code"] == "deadline_exceeded"


async def test_another_api_cancels_the_job_if_the_first_is_killed(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=0, DISCONNECT_GRACE_SECONDS="1")
    second = await deployment.another_api()
    job_id = await vanish(deployment.api, redis, keys)
    deployment.api_process.kill()

    status = await wait_completed(second, f"/jobs/{job_id}")

    assert (status["status"], status["responses"][0]["error_code"]) == ("cancelled", "cancelled")
    assert await redis.zcard(keys.job_deadlines) == 0
    assert await posted_again(second) != job_id


async def test_without_cancelling_the_job_continues_after_the_grace_period(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=1, CANCEL_ON_DISCONNECT="false", DISCONNECT_GRACE_SECONDS="3")
    await deployment.simulate(latency_ms=5000)
    job_id = await vanish(deployment.api, redis, keys)
    assert await posted_again(deployment.api) == job_id

    assert (await wait_completed(deployment.api, f"/jobs/{job_id}"))["successful"] == 1
    assert (await deployment.stats())["total"] == 1


async def test_a_batch_behind_a_proxy_that_gives_up_first_is_answered_and_paid_once(
    stack: Start,
) -> None:
    """The proxy sends every other request to the other API."""
    deployment = await stack(workers=1)
    second = await deployment.another_api()
    await deployment.simulate(latency_ms=5000)
    apis = [deployment.api.base_url, second.base_url]
    codes: list[int] = []
    async with (
        reverse_proxy("nginx", apis, timeout_s=2) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        while not codes or codes[-1] == httpx.codes.GATEWAY_TIMEOUT:
            answer = await client.post("/batch", json=BODY)
            codes.append(answer.status_code)
            await asyncio.sleep(0.3)  # a client's back-off

    assert codes == [504] * (len(codes) - 1) + [200]
    assert len(codes) >= 2
    assert answer.json()["responses"][0]["content"] == "echo: x"
    assert (await deployment.stats())["total"] == 1


LIVE_CALL = {"model": "ollama/m", "messages": [{"role": "user", "content": "x"}]}
REQUESTS = [
    ("/batch", BODY, ""),
    ("/batch", BODY, "Accept: application/x-ndjson\r\n"),
    ("/batch?mode=async", BODY, ""),
    ("/jobs", BODY, ""),
    ("/jobs?format=native", chat("x"), ""),
    ("/v1/chat/completions", LIVE_CALL, ""),
    ("/v1/chat/completions", {**LIVE_CALL, "stream": True}, ""),
]


@pytest.mark.parametrize("has_key", [False, True])
async def test_a_client_that_has_gone_before_its_request_is_read_gets_no_job(
    settings: Settings, redis: ArqRedis, keys: Keys, *, has_key: bool
) -> None:
    """The API was frozen, and its clients have repeated their requests at another API.

    With an idempotency key, the repetition is the same job.
    """
    async with served_api(settings) as api:
        for number, (path, body, header) in enumerate(REQUESTS):
            await api.get("/health")  # the API accepts connections
            # It runs in this thread, and reads nothing before the next `await`.
            with socket.create_connection((api.base_url.host, api.base_url.port or 0)) as client:
                content = json.dumps(body)
                key = f"Idempotency-Key: {number}\r\n" if has_key else ""
                client.sendall(
                    f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{header}{key}"
                    f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                    f"{content}".encode()
                )

        async def are_answered() -> bool:
            metrics = (await api.get("/metrics")).text
            counts = re.findall(r'seconds_count\{http_request_method="POST".* (\d+)\.0', metrics)
            return sum(map(int, counts)) == len(REQUESTS)

        await eventually(are_answered)
    assert await redis.zcard(keys.jobs_by_owner("")) == has_key * len(REQUESTS)
