"""Tests when the Python client sends a request again."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from support.jobs import wait_completed
from support.stack import Start, chat

from orchestrator_client import (
    AsyncClient,
    ConnectionFailed,
    ServiceUnavailable,
)


async def test_a_restart_of_the_api_is_not_noticed(stack: Start) -> None:
    deployment = await stack(workers=1, MAX_CONCURRENT_REQUESTS="5")
    await deployment.simulate(latency_ms=20)
    async with AsyncClient(str(deployment.api.base_url)) as client:
        job = await client.submit([chat(str(n)) for n in range(200)])
        seen = []
        async for item in client.results(job.job_id):
            seen.append(item.index)
            if len(seen) in {20, 100}:
                deployment.api_process.kill()
                await deployment.api_process.wait()
                await deployment.restart_api()
        status = await client.status(job.job_id)

    assert seen == list(range(200))
    assert status.successful == 200


async def test_a_request_is_sent_again_until_the_api_is_back(stack: Start) -> None:
    deployment = await stack(workers=1)
    async with AsyncClient(str(deployment.api.base_url)) as client:
        await client.overview()
        deployment.api_process.kill()
        await deployment.api_process.wait()
        submitting = asyncio.create_task(client.submit([chat("x")]))
        await deployment.restart_api()

        job = await submitting

    assert (await wait_completed(deployment.api, f"/jobs/{job.job_id}"))["successful"] == 1


async def test_an_iterator_is_sent_whole_although_the_upload_broke(stack: Start) -> None:
    deployment = await stack(workers=1)
    wanted = [f"{n} {'x' * 3000}" for n in range(1000)]

    def requests() -> Iterator[dict[str, Any]]:
        for number, content in enumerate(wanted):
            if number == 500:
                deployment.api_process.kill()
            yield chat(content)

    async with AsyncClient(str(deployment.api.base_url)) as client:
        submitting = asyncio.create_task(client.submit(requests(), key="k"))
        await deployment.api_process.wait()
        await deployment.restart_api()
        job = await submitting
        contents = [item.content async for item in client.results(job.job_id)]

    assert contents == [f"echo: {content}" for content in wanted]


async def test_the_retry_budget_ends(stack: Start) -> None:
    deployment = await stack(workers=0)
    async with AsyncClient(str(deployment.api.base_url), retry_for_s=0) as client:
        await client.overview()
        deployment.api_process.kill()
        await deployment.api_process.wait()
        with pytest.raises(ConnectionFailed, match="Can't reach the API at http"):
            await client.status("x")


async def test_a_retry_is_logged(stack: Start, caplog: pytest.LogCaptureFixture) -> None:
    deployment = await stack(workers=1, MAX_QUEUE_DEPTH="1")
    async with AsyncClient(str(deployment.api.base_url), retry_for_s=0.6) as client:
        with pytest.raises(ServiceUnavailable) as full:
            await client.submit([chat("a"), chat("b")])
    async with AsyncClient(str(deployment.api.base_url), retry_for_s=6) as client:
        with pytest.raises(ServiceUnavailable):
            await client.submit([chat("a"), chat("b")])

    assert (full.value.status_code, full.value.retry_after_s) == (429, 5)
    assert [record.name for record in caplog.records] == ["orchestrator_client"]
    assert caplog.messages == [f"{full.value}. Retrying for up to 6 s."]


async def test_an_upload_of_an_iterator_with_a_derived_key_is_sent_again(stack: Start) -> None:
    deployment = await stack(workers=1)
    wanted = [f"{n} {'x' * 3000}" for n in range(1000)]
    async with AsyncClient(str(deployment.api.base_url)) as client:
        await client.overview()
        deployment.api_process.kill()
        await deployment.api_process.wait()
        submitting = asyncio.create_task(client.submit(chat(content) for content in wanted))
        await deployment.restart_api()
        job = await submitting
        again = await client.submit([chat(content) for content in wanted])
        contents = [item.content async for item in client.results(job.job_id)]

    assert again.job_id == job.job_id
    assert contents == [f"echo: {content}" for content in wanted]
