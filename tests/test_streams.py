"""Tests streams that send items as soon as they finish: of a batch, and the events of a job."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx
import psutil
import pytest
from arq.connections import ArqRedis
from support.in_process import served_api
from support.jobs import Event, Events, events, job, lines, results, upload, wait_completed
from support.stack import Stack, Start, chat, eventually

from api.streams import heartbeats, result_stream, stream_response
from shared.queue.redis_keys import Keys
from shared.settings import Settings

STREAMS = 1000
MAX_STREAM_BYTES = 24 * 1024  # 19.9 KiB when this was written
ANSWER = "x" * 20_000


@asynccontextmanager
async def streaming(stack: Stack, requests: list[dict[str, Any]]) -> AsyncIterator[httpx.Response]:
    headers = {"Accept": "application/x-ndjson"}
    body = {"requests": requests}
    async with stack.api.stream("POST", "/batch", json=body, headers=headers) as answer:
        yield answer


async def streamed(stack: Stack, requests: list[dict[str, Any]], **options: Any) -> list[Any]:
    """Returns the lines of `POST /batch` as NDJSON."""
    headers = {"Accept": "application/x-ndjson", **options.pop("headers", {})}
    answer = await stack.batch(requests, headers=headers, **options)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_each_item_of_a_batch_is_sent_when_it_finishes(stack: Start) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(by_dialect={"ollama": {"latency_ms": 60_000}})
    requests = [chat("slow", provider="ollama"), chat("fast", request_id="second")]
    async with streaming(deployment, requests) as answer:
        found = aiter(answer.aiter_lines())
        first = json.loads(await anext(found))
        running = await job(deployment.api, answer.headers["location"])
        await deployment.api.delete(answer.headers["location"])
        rest = [json.loads(line) async for line in found]

    assert (first["index"], first["request_id"], first["content"]) == (1, "second", "echo: fast")
    assert running["running"] == 1
    [second, summary] = rest
    assert (second["index"], second["error_code"]) == (0, "cancelled")
    assert (summary["status"], summary["successful"], summary["failed"]) == ("cancelled", 1, 1)
    assert "responses" not in summary


@pytest.mark.parametrize("path", ["batch", "events", "results"])
async def test_an_item_that_finishes_later_is_sent_when_it_finishes(
    stack: Start, path: str
) -> None:
    """The item is sent long before the stream would read again by itself."""
    deployment = await stack(workers=1)
    later, much_later = {"latency_ms": 500}, {"latency_ms": 60_000}
    await deployment.simulate(by_dialect={"openai": later, "ollama": much_later})
    requests = [chat("later"), chat("much later", provider="ollama")]
    async with asyncio.timeout(result_stream.READ_AGAIN_S - 3), AsyncExitStack() as exits:
        if path == "batch":
            answer = await exits.enter_async_context(streaming(deployment, requests))
        else:
            accepted = await deployment.api.post("/jobs", json={"requests": requests})
            url = f"{accepted.headers['location']}/{path}"
            answer = await exits.enter_async_context(deployment.api.stream("GET", url))
        async for line in answer.aiter_lines():
            if "echo: later" in line:
                break


async def test_a_streamed_batch_has_everything_that_a_json_response_has(stack: Start) -> None:
    deployment = await stack(workers=1)
    requests = [chat(str(n), model="sim-404" if n == 7 else "m") for n in range(100)]

    *items, summary = await streamed(deployment, requests)

    status = await job(deployment.api, f"/jobs/{summary['job_id']}")
    by_index = sorted(items, key=lambda item: int(item["index"]))
    assert [item["cursor"] for item in items] == list(range(1, 101))
    assert [
        {name: value for name, value in item.items() if name not in {"index", "cursor"}}
        for item in by_index
    ] == status.pop("responses")
    assert summary == status


async def test_a_stream_ends_after_the_wait(stack: Start) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(by_dialect={"ollama": {"latency_ms": 60_000}})
    requests = [chat("fast"), chat("slow", provider="ollama")]

    first, summary = await streamed(deployment, requests, headers={"Prefer": "wait=3"})

    assert first["content"] == "echo: fast"
    assert (summary["status"], summary["successful"], summary["running"]) == ("running", 1, 1)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/event-stream", "text/event-stream; charset=utf-8"),
        ("text/html, Application/X-NDJSON;q=0.5", "application/x-ndjson"),
        ("application/x-ndjson;q=0, */*", "application/json"),
        ("application/jsonl", "application/x-ndjson"),
        ("application/ndjson, application/json;q=0.9", "application/x-ndjson"),
        ("text/plain", "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/event-stream", "application/json"),
        ("application/json;q=0.5, application/x-ndjson;q=nonsense", "application/x-ndjson"),
        ("nonsense;;,", "application/json"),
    ],
)
@pytest.mark.usefixtures("worker")
async def test_the_accept_header_selects_the_format(
    api: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    answer = await api.post("/batch", json={"requests": [chat("x")]}, headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type


async def test_events_are_every_item_once_and_done(stack: Start) -> None:
    deployment = await stack(workers=1)
    location = await upload(deployment.api, lines(str(n) for n in range(300)))

    found = await events(deployment.api, location)

    *items, done = found
    assert [event["event"] for event in found] == ["item"] * 300 + ["done"]
    assert [event["id"] for event in found] == [str(n) for n in range(1, 302)]
    assert sorted(event["data"]["index"] for event in items) == list(range(300))
    assert (done["data"]["status"], done["data"]["successful"]) == ("completed", 300)


async def test_a_client_that_reconnects_gets_every_item_once(
    stack: Start,
) -> None:
    """The client connects to two API processes in turn."""
    deployment = await stack(workers=2)
    second = await deployment.another_api()
    await deployment.simulate(latency_ms=20, latency_spread_ms=20)
    location = await upload(deployment.api, lines(str(n) for n in range(200)))
    found: list[Event] = []
    for turn in range(1000):
        api = (deployment.api, second)[turn % 2]
        last = found[-1]["id"] if found else None
        found += await events(api, location, after=last, limit=1 + turn * 3 % 17)
        if found[-1]["event"] == "done":
            break

    assert [int(event["id"]) for event in found] == list(range(1, 202))
    assert sorted(event["data"]["index"] for event in found[:-1]) == list(range(200))
    stop = await second.get(f"{location}/events", headers={"Last-Event-ID": "201"})
    assert stop.status_code == 204


async def test_an_empty_event_id_is_like_none(stack: Start) -> None:
    deployment = await stack(workers=1)
    location = await upload(deployment.api, lines(["a", "b"]))

    found = await events(deployment.api, location, after="")

    assert [event["id"] for event in found] == ["1", "2", "3"]


async def test_an_invalid_event_id_is_refused(stack: Start) -> None:
    deployment = await stack(workers=1)
    location = await upload(deployment.api, lines(str(n) for n in range(300)))
    for garbage in ("x", "-1", "302", "1.0", "9" * 300):
        answer = await deployment.api.get(f"{location}/events", headers={"Last-Event-ID": garbage})

        assert answer.status_code == 400, garbage


async def test_the_id_of_done_is_refused_while_the_job_runs(stack: Start) -> None:
    deployment = await stack(workers=0)
    location = await upload(deployment.api, lines(["a", "b"]))

    answer = await deployment.api.get(f"{location}/events", headers={"Last-Event-ID": "3"})

    assert answer.status_code == 400


async def test_a_stream_continues_at_another_api_when_one_stops(stack: Start) -> None:
    deployment = await stack(workers=1)
    second = await deployment.another_api()
    await deployment.simulate(by_dialect={"ollama": {"latency_ms": 60_000}})
    body = lines(["fast"]) + lines(["slow"], provider="ollama")
    location = await upload(deployment.api, body)
    reader = Events()
    async with deployment.api.stream("GET", f"{location}/events") as answer:
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 — the loop is what raises
            async for line in answer.aiter_lines():
                if event := reader.feed(line):
                    assert event["data"]["content"] == "echo: fast"
                    deployment.api_process.terminate()
    continued = asyncio.create_task(events(second, location, after="1"))
    await second.delete(location)

    assert [event["id"] for event in await continued] == ["2", "3"]


async def test_a_quiet_stream_has_heartbeats(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT_S", 0.02)
    async with served_api(settings) as api:
        location = await upload(api, lines(["x"]))
        reader = Events()
        async with api.stream("GET", f"{location}/events") as answer:
            async for line in answer.aiter_lines():
                assert reader.feed(line) is None
                if reader.comments == 3:
                    break


@contextmanager
def not_reading(api: httpx.AsyncClient, request: str) -> Iterator[None]:
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((api.base_url.host, api.base_url.port))
        reader.sendall(request.encode())
        yield


async def put_results(redis: ArqRedis, keys: Keys, job_id: str, count: int, answer: str) -> None:
    result = b"1 " + json.dumps({"content": answer}).encode()
    for first in range(0, count, 100):  # a busy machine needs seconds for 60 MB in one command
        some = {str(n): result for n in range(first, min(first + 100, count))}
        await redis.hset(keys.results(job_id), mapping=some)  # type: ignore[misc]
    await redis.rpush(keys.completion_order(job_id), *range(count))  # type: ignore[misc]


async def test_a_client_that_does_not_read_is_disconnected(
    settings: Settings,
    redis: ArqRedis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del caplog
    monkeypatch.setattr(stream_response, "SEND_TIMEOUT_S", 0.2)
    async with served_api(settings) as api:
        location = await upload(api, lines(["x"] * 3000))
        job_id = location.removeprefix("/jobs/")
        await put_results(redis, keys, job_id, 3000, ANSWER)
        await redis.hset(keys.job(job_id), "finished_ms", "1")  # type: ignore[misc]
        with not_reading(api, f"GET {location}/results HTTP/1.1\r\nHost: localhost\r\n\r\n"):

            async def dropped() -> bool:
                return "reader_dropped" in capsys.readouterr().out

            await eventually(dropped)
        whole = await results(api, location)

    assert len(whole) == 3000  # a client that reads gets everything


async def test_the_batch_of_a_client_that_does_not_read_is_cancelled(
    settings: Settings, redis: ArqRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_response, "SEND_TIMEOUT_S", 0.2)
    body = json.dumps({"requests": [chat("x")] * 100})
    head = f"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    settings = settings.model_copy(update={"disconnect_grace_seconds": 0})
    async with served_api(settings) as api:
        with not_reading(api, f"{head}Accept: application/x-ndjson\r\n\r\n{body}"):

            async def accepted() -> bool:
                return bool(await redis.zcard(keys.jobs_by_owner("")))

            await eventually(accepted)
            [job_id] = [
                found.decode() for found in await redis.zrange(keys.jobs_by_owner(""), 0, -1)
            ]
            await put_results(redis, keys, job_id, 99, ANSWER * 20)
            await redis.publish(keys.job_progress, job_id)

            async def cancelled() -> bool:
                status = await job(api, f"/jobs/{job_id}")
                return bool(status["status"] == "cancelled")

            await eventually(cancelled)


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_stream(url: httpx.URL, path: str) -> Connection:
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    return reader, writer


async def test_a_thousand_streams_use_one_subscription_and_little_memory(
    stack: Start, redis: ArqRedis, keys: Keys
) -> None:
    deployment = await stack(workers=1)
    await deployment.simulate(latency_ms=60_000)
    location = await upload(deployment.api, lines(["x", "y"]))
    api = psutil.Process(deployment.api_process.pid)
    path = f"{location}/events"
    first = [await open_stream(deployment.api.base_url, path) for _ in range(20)]
    before = api.memory_info().rss

    streams = [await open_stream(deployment.api.base_url, path) for _ in range(STREAMS)]

    each = (api.memory_info().rss - before) / STREAMS
    assert each <= MAX_STREAM_BYTES
    assert await redis.pubsub_numsub(keys.job_progress) == [(keys.job_progress.encode(), 1)]
    await deployment.api.delete(location)
    found = await asyncio.gather(*(r.readuntil(b"event: done\n") for r, _ in [*first, *streams]))
    for _, writer in (*first, *streams):
        writer.close()
    assert {stream.count(b"event: item\n") for stream in found} == {2}


async def test_the_job_of_a_client_that_closes_its_stream_is_cancelled(stack: Start) -> None:
    deployment = await stack(workers=1, DISCONNECT_GRACE_SECONDS="1")
    await deployment.simulate(latency_ms=60_000)
    async with streaming(deployment, [chat("x")]) as answer:
        await deployment.in_flight(1)

    status = await wait_completed(deployment.api, answer.headers["location"])

    assert status["status"] == "cancelled"

    async def aborted() -> bool:
        return bool((await deployment.stats())["aborted"] == 1)

    await eventually(aborted)
