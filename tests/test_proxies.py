"""Tests clients behind a real proxy that hangs up on an API that is silent for too long."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from support.in_process import served_api
from support.jobs import Events, lines, upload
from support.reverse_proxy import PROXIES, reverse_proxy
from support.stack import Start, chat, eventually

from api.openai import live_call
from api.streams import heartbeats
from orchestrator_client import AsyncClient, JobItem, ServiceUnavailable
from shared.settings import Settings

SLOW = "sim-latency-7000"  # takes longer than the proxies wait


async def batch(client: httpx.AsyncClient, media_type: str) -> str:
    answer = await client.post(
        "/batch", json={"requests": [chat("x", model=SLOW)]}, headers={"Accept": media_type}
    )
    return answer.text


async def stream(client: httpx.AsyncClient, path: str) -> str:
    return (await client.get(path)).text


async def live(client: httpx.AsyncClient) -> str:
    message = {"role": "user", "content": "x"}
    body = {"model": f"ollama/{SLOW}", "messages": [message], "stream": True}
    return (await client.post("/v1/chat/completions", json=body)).text


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.usefixtures("worker")
async def test_every_stream_passes_a_proxy_that_hangs_up_on_silence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(live_call, "HEADERS_AFTER_S", 0.5)
    async with (
        served_api(settings) as api,
        reverse_proxy(name, [api.base_url], timeout_s=3) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        location = await upload(client, lines(["x"], model=SLOW))
        results, events, batch_lines, batch_events, live_events = await asyncio.gather(
            stream(client, f"{location}/results"),
            stream(client, f"{location}/events"),
            batch(client, "application/x-ndjson"),
            batch(client, "text/event-stream"),
            live(client),
        )

    for text in (results, batch_lines):
        first, *_ = found = text.splitlines()
        assert not first  # an empty line is a heartbeat
        assert json.loads(next(filter(None, found)))["content"] == "echo: x"
    for text in (events, batch_events):
        reader = Events()
        found = [event["event"] for line in text.splitlines() if (event := reader.feed(line))]
        assert found == ["item", "done"]
        assert reader.comments >= 1
    comment, *_, end = filter(None, live_events.splitlines())
    assert (comment[:1], end) == (":", "data: [DONE]")
    assert '"content":"echo:"' in live_events


@pytest.mark.usefixtures("worker")
async def test_a_stream_is_alive_while_only_items_of_later_requests_finish(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the requests, the stream reads whenever an item finishes, and sends none."""
    monkeypatch.setattr(heartbeats, "HEARTBEAT_S", 0.5)
    body = lines(["first"], model=SLOW) + b"".join(
        lines([str(n)], model=f"sim-latency-{n * 400}") for n in range(1, 15)
    )
    async with (
        served_api(settings) as api,
        reverse_proxy("nginx", [api.base_url], timeout_s=3) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        location = await upload(client, body)
        text = await stream(client, f"{location}/results")

    found = [json.loads(line)["content"] for line in text.splitlines() if line]
    assert found == ["echo: first", *(f"echo: {n}" for n in range(1, 15))]


async def test_the_client_is_patient_with_a_proxy_that_hangs_up_on_silence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams without heartbeats, as of an older API, break again and again for longer than the
    client repeats a request, but each connection is accepted."""
    monkeypatch.setattr(heartbeats, "HEARTBEAT_S", 1000)
    async with (
        served_api(settings) as api,
        reverse_proxy("nginx", [api.base_url], timeout_s=1) as url,
    ):
        hung_up: list[str] = []
        async with AsyncClient(url, retry_for_s=1, on_retry=hung_up.append) as client:
            job = await client.submit([chat("x")])
            reading = asyncio.create_task(first_result(client, job.job_id))

            async def is_patient() -> bool:
                return len(hung_up) == 1 and not reading.done()

            await eventually(is_patient)
            await asyncio.sleep(4)  # duration of the silence, four times the client's patience
            assert not reading.done()
            await client.cancel(job.job_id)
            assert (await reading).error_code == "cancelled"


async def first_result(client: AsyncClient, job_id: str) -> JobItem:
    async with aclosing(client.results(job_id)) as items:
        return await anext(items)


REPEATED: dict[str, Callable[[AsyncClient, str], Awaitable[Any]]] = {
    "batch": lambda client, _: client.batch([chat("new")]),
    "submit": lambda client, _: client.submit([chat("new")]),
    "status": lambda client, job_id: client.status(job_id),
    "results": first_result,
    "failures": lambda client, job_id: client.failures(job_id, 1),
    "cancel": lambda client, job_id: client.cancel(job_id),
}


@pytest.mark.parametrize("call", REPEATED)
async def test_the_client_repeats_a_call_while_the_proxy_cannot_reach_the_api(
    stack: Start, call: str
) -> None:
    deployment = await stack(workers=1)
    async with reverse_proxy("nginx", [deployment.api.base_url], timeout_s=60) as url:
        refused: list[str] = []
        async with AsyncClient(url, on_retry=refused.append) as client:
            job = await client.submit([chat("x")])
            deployment.api_process.kill()
            await deployment.api_process.wait()
            calling = asyncio.ensure_future(REPEATED[call](client, job.job_id))

            async def was_refused() -> bool:
                return bool(refused)

            await eventually(was_refused)
            await deployment.restart_api()
            await calling

    assert "502 Bad Gateway" in refused[0]


async def test_a_proxy_that_never_reaches_the_api_ends_the_clients_patience() -> None:
    nowhere = httpx.URL("http://127.0.0.1:9")
    async with (
        reverse_proxy("haproxy", [nowhere], timeout_s=60) as url,
        AsyncClient(url, retry_for_s=1) as client,
    ):
        with pytest.raises(ServiceUnavailable, match="503 Service Unavailable") as refused:
            await client.status("x")

    assert refused.value.status_code == 503


async def test_a_batch_may_take_longer_than_the_proxy_waits(stack: Start) -> None:
    """The client asks the API for a shorter wait after the first 504."""
    deployment = await stack(workers=1)
    async with reverse_proxy("nginx", [deployment.api.base_url], timeout_s=3) as url:
        refused: list[str] = []
        async with AsyncClient(url, retry_for_s=5, on_retry=refused.append) as client:
            answer = await client.batch([chat("x", model="sim-latency-10000")])

    assert answer.responses[0].content == "echo: x"
    assert len(refused) == 1
    assert "504 Gateway Time-out" in refused[0]
    assert (await deployment.stats())["total"] == 1
