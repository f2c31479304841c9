"""Tests that POST /jobs/{id}/retry runs the failed items again, as a new job."""

import asyncio

from arq.connections import ArqRedis
from support.jobs import job, lines, results, upload, wait_completed
from support.stack import Start

from shared.queue.redis_keys import Keys


async def test_failed_items_run_again_as_a_new_job(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=1, MAX_RETRIES="0")
    body = b"".join(
        lines([f"{n}"], model="sim-status-500x1" if n % 3 == 0 else "m", request_id=f"id-{n}")
        for n in range(700)
    )
    first = await upload(deployment.api, body)
    before = await wait_completed(deployment.api, first)
    answers = await results(deployment.api, first)

    retry = await deployment.api.post(f"{first}/retry")
    second = retry.headers["location"]
    after = await wait_completed(deployment.api, second)

    assert retry.status_code == 202
    assert (before["failed"], after["total_requests"], after["failed"]) == (234, 234, 0)
    ids = [line["request_id"] for line in await results(deployment.api, second)]
    assert ids == [f"id-{n}" for n in range(0, 700, 3)]
    assert f"/jobs/{after['retry_of']}" == first
    old = await job(deployment.api, first)
    assert f"/jobs/{old.pop('retried_as')}" == second
    assert before.pop("retried_as") is None
    assert old == before
    assert await results(deployment.api, first) == answers
    assert not await redis.exists(keys.payloads(first.removeprefix("/jobs/")))


async def test_two_retries_are_one_job(stack: Start) -> None:
    deployment = await stack(workers=1)
    second_api = await deployment.another_api()
    location = await upload(deployment.api, lines(["x"] * 60, model="sim-404"))
    await wait_completed(deployment.api, location)

    apis = (deployment.api, second_api) * 5
    retries = await asyncio.gather(*(api.post(f"{location}/retry") for api in apis))

    assert {retry.status_code for retry in retries} == {202}
    assert len({retry.headers["location"] for retry in retries}) == 1
    await wait_completed(deployment.api, retries[0].headers["location"])
    assert (await deployment.stats())["total"] == 120


async def test_cancelled_items_can_be_retried(stack: Start) -> None:
    deployment = await stack(workers=0)
    location = await upload(deployment.api, lines(str(n) for n in range(600)))
    await deployment.api.delete(location)
    await deployment.add_worker()

    retry = await deployment.api.post(f"{location}/retry")

    contents = [r["content"] for r in await results(deployment.api, retry.headers["location"])]
    assert contents == [f"echo: {n}" for n in range(600)]


async def test_requests_without_an_id_keep_their_numbers(stack: Start) -> None:
    deployment = await stack(workers=1)
    body = lines(["a"]) + lines(["b"], model="sim-404x1") + lines(["c"], model="sim-404")
    location = await upload(deployment.api, body)
    await wait_completed(deployment.api, location)

    ids = []
    for _ in range(2):
        location = (await deployment.api.post(f"{location}/retry")).headers["location"]
        ids.append([line["request_id"] for line in await results(deployment.api, location)])

    assert ids == [["request-1", "request-2"], ["request-2"]]


async def test_a_retry_can_be_retried(stack: Start) -> None:
    deployment = await stack(workers=1)
    location = await upload(deployment.api, lines(["x", "y"], model="sim-404"))
    seen = [location]
    for _ in range(3):
        await wait_completed(deployment.api, seen[-1])
        seen.append((await deployment.api.post(f"{seen[-1]}/retry")).headers["location"])

    assert len(set(seen)) == 4


async def test_nothing_to_retry_is_a_conflict(stack: Start) -> None:
    deployment = await stack(workers=1)
    successful = await upload(deployment.api, lines(["x"]))
    await wait_completed(deployment.api, successful)
    await deployment.simulate(latency_ms=60_000)
    running = await upload(deployment.api, lines(["x"]))

    answers = [await deployment.api.post(f"{path}/retry") for path in (successful, running)]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert (await deployment.api.post("/jobs/nobody/retry")).status_code == 404
