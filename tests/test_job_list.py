"""Tests that GET /jobs lists the owner's jobs in pages, newest first."""

from base64 import b64encode
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from support.jobs import job, lines, upload, wait_completed
from support.stack import Stack, Start

from shared.queue.redis_keys import Keys


async def pages(stack: Stack, **query: Any) -> list[list[dict[str, Any]]]:
    found = []
    while True:
        answer = await stack.api.get("/jobs", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found.append(page["jobs"])
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


async def test_jobs_are_listed_newest_first_in_pages(stack: Start) -> None:
    deployment = await stack(workers=1)
    locations = [await upload(deployment.api, lines([str(n)])) for n in range(25)]
    statuses = []
    for location in reversed(locations):
        status = await wait_completed(deployment.api, location)
        status.pop("responses")
        statuses.append(status)

    found = await pages(deployment, limit=10)

    assert [len(page) for page in found] == [10, 10, 5]
    assert [entry for page in found for entry in page] == statuses
    assert (await pages(deployment, limit=100)) == [statuses]


async def test_new_jobs_do_not_change_the_next_page(stack: Start) -> None:
    deployment = await stack(workers=0)
    locations = [await upload(deployment.api, lines([str(n)])) for n in range(4)]
    first = (await deployment.api.get("/jobs", params={"limit": 2})).json()
    await upload(deployment.api, lines(["new"]))

    second = await pages(deployment, limit=2, cursor=first["next_cursor"])

    assert [f"/jobs/{entry['job_id']}" for entry in second[0]] == locations[1::-1]


async def test_jobs_are_filtered_by_status(stack: Start) -> None:
    deployment = await stack(workers=0)
    locations = [await upload(deployment.api, lines([str(n)])) for n in range(6)]
    for location in locations[::2]:
        await deployment.api.delete(location)

    for status, expected in (("cancelled", locations[4::-2]), ("queued", locations[5::-2])):
        found = await pages(deployment, status=status, limit=2)

        assert [f"/jobs/{entry['job_id']}" for page in found for entry in page] == expected
    assert await pages(deployment, status="completed") == [[]]


async def test_expired_jobs_are_not_listed(stack: Start, redis: ArqRedis, keys: Keys) -> None:
    deployment = await stack(workers=0)
    locations = [await upload(deployment.api, lines([str(n)])) for n in range(3)]
    await redis.delete(keys.job(locations[1].removeprefix("/jobs/")))

    for limit in (1, 20):
        found = [entry for page in await pages(deployment, limit=limit) for entry in page]

        assert [f"/jobs/{entry['job_id']}" for entry in found] == [locations[2], locations[0]]


@pytest.mark.parametrize("cursor", ["x", "", "-1", "1e9", "1.5", "9" * 100, "٣"])
async def test_an_invalid_cursor_is_refused(api: httpx.AsyncClient, cursor: str) -> None:
    assert (await api.get("/jobs", params={"cursor": cursor})).status_code == 400


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"status": "lost"}])
async def test_an_invalid_query_is_refused(api: httpx.AsyncClient, query: dict[str, Any]) -> None:
    assert (await api.get("/jobs", params=query)).status_code == 422


async def test_the_delivery_of_a_webhook_is_not_a_job(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    secret = f"whsec_{b64encode(bytes(32)).decode()}"
    deployment = await stack(workers=0, WEBHOOK_SECRET=secret)
    query = {"webhook_url": "http://example.com/"}
    location = await upload(deployment.api, lines(["x"]), params=query)
    await deployment.api.delete(location)

    [found] = await pages(deployment)

    assert [f"/jobs/{entry['job_id']}" for entry in found] == [location]
    assert await redis.exists(keys.job(f"{location.removeprefix('/jobs/')}.webhook"))
    for path in ("", "/results", "/events"):
        assert (await deployment.api.get(f"{location}.webhook{path}")).status_code == 404
    assert (await deployment.api.delete(f"{location}.webhook")).status_code == 404
    delivery = keys.job(f"{location.removeprefix('/jobs/')}.webhook")
    assert not await redis.hexists(delivery, "finished_ms")  # type: ignore[misc]
    assert (await job(deployment.api, location))["webhook"]["status"] == "waiting"
