"""Tests live calls whose answer is streamed: on their way from the provider to the client."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
from arq.connections import ArqRedis
from support.claims import accept, claim, settle
from support.in_process import running_worker, served_api
from support.providers import combined
from support.raw_server import http, raw
from support.results import finished
from support.stack import eventually

import api.openai.live_call
import api.streams.heartbeats
from api.openai.answer_stream import AnswerStream
from api.streams.job_updates import JobUpdates
from cli.simulator import Behaviour, Simulator
from shared.dialects.dialect import Operation
from shared.jobs.store import Store
from shared.models import LLMResponse
from shared.providers import PROVIDERS, Catalogue
from shared.queue.claims import Queue
from shared.queue.deltas import FINISHED_TTL_S, RUNNING_TTL_S, Deltas, Parts
from shared.queue.item_results import BROKEN_STREAM
from shared.queue.leases import Lease, Settlement
from shared.queue.redis_keys import Keys
from shared.settings import ProviderSettings, Settings

PATH = "/v1/chat/completions"
CHAT = {
    "model": "openrouter/m",
    "messages": [{"role": "user", "content": "a b c"}],
    "stream": True,
}
TEXTS = ["", "echo:", " a", " b", " c", None]
REPEATED = {"x-stainless-retry-count": "1"}


@pytest.fixture
def catalogue(providers: dict[str, ProviderSettings]) -> Catalogue:
    return combined({name: PROVIDERS[name] for name in providers}, providers).catalogue


@pytest.fixture
async def served(settings: Settings, catalogue: Catalogue) -> AsyncIterator[httpx.AsyncClient]:
    async with served_api(settings, catalogue) as client:
        yield client


class Reader:
    """Reads the events of a stream one by one."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def line(self) -> str:
        """Returns the next line that is not empty."""
        while not (line := await anext(self._lines)):
            pass
        return line

    async def rest(self) -> list[Any]:
        """Returns the events up to the end, without comments."""
        lines = [line async for line in self._lines if line.startswith("data: ")]
        return [event(line) for line in lines]


def event(line: str) -> Any:
    data = line.removeprefix("data: ")
    return data if data == "[DONE]" else json.loads(data)


def texts(events: list[Any]) -> list[str | None]:
    return [chunk["choices"][0]["delta"].get("content") for chunk in events]


@asynccontextmanager
async def streamed(
    client: httpx.AsyncClient, headers: dict[str, str] | None = None, **fields: Any
) -> AsyncIterator[Reader]:
    async with client.stream("POST", PATH, json={**CHAT, **fields}, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Reader(response)


@pytest.mark.usefixtures("worker")
async def test_the_result_is_the_whole_answer(
    served: httpx.AsyncClient, redis: ArqRedis, keys: Keys
) -> None:
    async with streamed(served) as stream:
        *chunks, end = await stream.rest()
        location = stream.response.headers["location"]

    assert (texts(chunks), end) == (TEXTS, "[DONE]")
    [item] = (await served.get(location)).json()["responses"]
    assert (item["content"], item["finish_reason"]) == ("echo: a b c", "stop")
    assert (item["prompt_tokens"], item["completion_tokens"]) == (3, 4)
    assert item["body"]["object"] == "chat.completion"
    job_id = location.removeprefix("/jobs/")
    assert 0 < await redis.ttl(keys.deltas(job_id)) <= FINISHED_TTL_S


@pytest.mark.usefixtures("worker")
async def test_a_client_that_joins_gets_the_stream_from_its_start(
    served: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.configure(Behaviour(chunk_ms=150))

    async with streamed(served) as first:
        begun = [event(await first.line()) for _ in range(3)]
        async with streamed(served, REPEATED) as second:
            joined = await second.rest()
        whole = begun + await first.rest()

    assert whole == joined
    assert texts(whole[:-1]) == TEXTS
    assert first.response.headers["location"] == second.response.headers["location"]
    assert len(simulator.received()) == 1


@pytest.mark.usefixtures("worker")
async def test_a_client_that_disconnects_in_a_stream_cancels_the_call(
    settings: Settings, catalogue: Catalogue, simulator: Simulator
) -> None:
    simulator.configure(Behaviour(chunk_ms=60_000))
    settings = settings.model_copy(update={"disconnect_grace_seconds": 0})

    async with served_api(settings, catalogue) as client:
        async with streamed(client) as stream:
            await stream.line()
            location = stream.response.headers["location"]

        async def is_stopped() -> bool:
            return bool(simulator.stats()["aborted"] == 1)

        await eventually(is_stopped)
        assert (await client.get(location)).json()["status"] == "cancelled"


async def test_comments_keep_a_stream_open_while_the_call_waits(
    served: httpx.AsyncClient,
    settings: Settings,
    providers: dict[str, ProviderSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api.openai.live_call, "HEADERS_AFTER_S", 0.02)
    monkeypatch.setattr(api.streams.heartbeats, "HEARTBEAT_S", 0.02)

    async with streamed(served) as stream:
        assert (await stream.line()).startswith(":")
        async with running_worker(settings, providers):
            *chunks, end = await stream.rest()

    assert (texts(chunks), end) == (TEXTS, "[DONE]")


@pytest.mark.usefixtures("worker")
async def test_a_connection_that_breaks_in_a_stream_is_not_tried_again(
    served: httpx.AsyncClient, simulator: Simulator
) -> None:
    async with streamed(served, model="openrouter/sim-half") as stream:
        *chunks, error = await stream.rest()
        location = stream.response.headers["location"]

    assert texts(chunks) == TEXTS[: len(chunks)] != []
    assert error["error"]["code"] == "connection_error"
    assert len(simulator.received()) == 1
    [item] = (await served.get(location)).json()["responses"]
    assert (item["error_code"], item["attempts"]) == ("connection_error", 1)


@pytest.mark.usefixtures("worker")
async def test_a_failure_before_the_first_event_is_tried_again(
    served: httpx.AsyncClient, simulator: Simulator
) -> None:
    async with streamed(served, model="openrouter/sim-500x1") as stream:
        *chunks, end = await stream.rest()

    assert (texts(chunks), end) == (TEXTS, "[DONE]")
    assert len(simulator.received()) == 2


@asynccontextmanager
async def answered(settings: Settings, provider: str, answer: bytes) -> AsyncIterator[Any]:
    """Yields a client of the API, and the server that the provider is."""
    async with raw(answer) as server:
        known = {provider: ProviderSettings(base_url=server.url, api_key="k")}
        providers = combined({provider: PROVIDERS[provider]}, known)
        async with (
            served_api(settings, providers.catalogue) as client,
            running_worker(settings, providers),
        ):
            yield client, server


async def test_an_answer_that_is_not_streamed_is_one_chunk(settings: Settings) -> None:
    message = {"role": "assistant", "content": "hi"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    body = {"id": "i", "object": "chat.completion", "created": 7, "model": "m", "usage": usage}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    async with answered(settings, "ollama", http(body)) as (client, server):
        options = {"include_usage": True}
        async with streamed(client, model="ollama/m", stream_options=options) as stream:
            chunk, usage_chunk, end = await stream.rest()

    assert chunk["choices"][0]["delta"] == message
    assert chunk["choices"][0]["finish_reason"] == "stop"
    assert (usage_chunk["choices"], usage_chunk["usage"], end) == ([], usage, "[DONE]")
    assert orjson.loads(server.requests[0].partition(b"\r\n\r\n")[2])["stream"] is True


async def test_a_stream_of_anthropic_is_translated(settings: Settings) -> None:
    events = (
        {"type": "message_start", "message": {"id": "i", "model": "m", "usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "hi"},
        },
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    )
    body = b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)
    answer = http(body, "Content-Type: text/event-stream")
    async with answered(settings, "anthropic", answer) as (client, server):
        async with streamed(client, model="anthropic/m") as stream:
            *chunks, end = await stream.rest()
            location = stream.response.headers["location"]
        [item] = (await client.get(location)).json()["responses"]

    assert (texts(chunks), end) == (["", "hi", None], "[DONE]")
    assert orjson.loads(server.requests[0].partition(b"\r\n\r\n")[2])["stream"] is True
    assert (item["content"], item["finish_reason"]) == ("hi", "stop")
    assert item["body"]["choices"][0]["message"] == {"role": "assistant", "content": "hi"}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (PATH, {"stream": "yes"}, "stream"),
        (PATH, {"stream": True, "stream_options": [1]}, "stream_options"),
        ("/v1/embeddings", {"stream": True, "input": "a"}, "stream"),
    ],
)
async def test_a_stream_that_cannot_be_made_is_refused(
    served: httpx.AsyncClient, path: str, fields: dict[str, Any], param: str
) -> None:
    answer = await served.post(path, json={**CHAT, **fields})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.fixture
def deltas(redis: ArqRedis, keys: Keys) -> Deltas:
    return Deltas(redis, keys)


def parts(*texts: bytes, are_lost: bool = False, has_ended: bool = False) -> Parts:
    return Parts(list(texts), are_lost, has_ended)


async def begun(store: Store, queue: Queue, deltas: Deltas) -> Lease:
    """Returns the lease of a call whose first part has been appended."""
    await accept(store, "j", "a")
    [lease] = await claim(queue)
    assert await deltas.append("a", lease.lease_id, b"1", position=0)
    return lease


async def test_parts_are_appended_once_and_in_order(
    store: Store, queue: Queue, deltas: Deltas, redis: ArqRedis, keys: Keys
) -> None:
    lease = await begun(store, queue, deltas)

    for part, position in ((b"1", 0), (b"2", 1), (b"2", 1), (b"3", 2)):
        assert await deltas.append("a", lease.lease_id, part, position=position)

    assert await deltas.read("j", 0) == parts(b"1", b"2", b"3")
    assert await deltas.read("j", 2) == parts(b"3")
    assert FINISHED_TTL_S < await redis.ttl(keys.deltas("j")) <= RUNNING_TTL_S
    await settle(queue, Settlement(lease, "complete", b"{}"))
    assert await deltas.read("j", 3) == parts(has_ended=True)
    await redis.delete(keys.deltas("j"))
    assert await deltas.read("j", 2) == parts(are_lost=True, has_ended=True)
    assert not await deltas.append("a", lease.lease_id, b"4", position=3)


async def test_a_client_that_reads_too_slowly_gets_an_error(
    store: Store, queue: Queue, deltas: Deltas, redis: ArqRedis, keys: Keys
) -> None:
    async def answer() -> LLMResponse:
        return finished(body="{}")

    lease = await begun(store, queue, deltas)
    stream = AnswerStream(deltas, JobUpdates(redis, keys, store), "j", Operation.CHAT, {}, answer)
    await stream.begin(1)
    await deltas.append("a", lease.lease_id, b"2", position=1)
    await settle(queue, Settlement(lease, "complete", b"{}"))
    await redis.delete(keys.deltas("j"))

    part, error = [chunk async for chunk in stream.chunks()]

    assert part == b"1"
    assert "read too slowly" in event(error.decode().strip())["error"]["message"]


@pytest.mark.parametrize("end", ["lost", "released", "retried"])
async def test_a_call_whose_stream_has_begun_does_not_run_again(
    store: Store, queue: Queue, deltas: Deltas, redis: ArqRedis, keys: Keys, end: str
) -> None:
    lease = await begun(store, queue, deltas)

    if end == "lost":
        await redis.zadd(keys.leases("a"), {lease.lease_id: 1})
    else:
        outcome: Any = "release" if end == "released" else "retry"
        await settle(queue, Settlement(lease, outcome))

    assert await claim(queue) == []
    snapshot = await store.snapshot("j")
    assert snapshot is not None
    assert snapshot.results is not None
    assert snapshot.results[0].partition(b" ")[2] == BROKEN_STREAM.to_json()
    assert not await deltas.append("a", lease.lease_id, b"2", position=1)


async def test_a_worker_without_the_lease_appends_nothing(
    store: Store, queue: Queue, deltas: Deltas, redis: ArqRedis, keys: Keys
) -> None:
    await accept(store, "j", "a")
    [lost] = await claim(queue)
    await redis.zadd(keys.leases("a"), {lost.lease_id: 1})
    [lease] = await claim(queue)

    assert not await deltas.append("a", lost.lease_id, b"1", position=0)
    assert await deltas.append("a", lease.lease_id, b"2", position=0)

    assert await deltas.read("j", 0) == parts(b"2")
