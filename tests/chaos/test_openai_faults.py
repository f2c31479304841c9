"""Tests OpenAI's client with two APIs behind a proxy, while an API and workers are killed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import httpx2
import openai
import pytest
from support.faults import stop
from support.ledger import STORE_MS, calls_by_item, ledger, now_ms, open_during
from support.reverse_proxy import PROXIES, reverse_proxy
from support.search_depth import FULL, examples
from support.stack import Start, eventually

from cli.simulator.chat import item_of

pytestmark = pytest.mark.chaos

CHAT = "/v1/chat/completions"
MODEL = "openrouter/m"
LINES = 30
WORDS = " ".join(map(str, range(40)))
ROUNDS = examples(2, full=8)


def text(batch: int, number: int) -> str:
    """Returns the text of a request: each has another."""
    return f"b{batch}x{number} {'word ' * 4000}"


def requests(batch: int) -> bytes:
    """Returns a file of some blocks."""
    lines = []
    for number in range(LINES):
        message = {"role": "user", "content": text(batch, number)}
        body = {"model": MODEL, "messages": [message]}
        line = {"custom_id": str(number), "method": "POST", "url": CHAT, "body": body}
        lines.append(json.dumps(line))
    return "\n".join(lines).encode()


class Load:
    """Sends batches and streams, and reads lists, until it is stopped."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client: Any = client
        self._stopped = False
        self._numbers = count()
        self.files: set[str] = set()
        self.batches: dict[str, int] = {}  # id → number in the texts of the requests
        self.streams: dict[int, str] = {}  # number → text, or the code of its error
        self.walks = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the load. At the end, everything that has begun is completed."""
        async with asyncio.TaskGroup() as group:
            for send in (self._send_batches, self._send_batches, self._stream, self._stream):
                group.create_task(send())
            group.create_task(self._walk())
            try:
                yield
            finally:
                self._stopped = True

    async def _send_batches(self) -> None:
        while not self._stopped:
            number = next(self._numbers)
            file = await self._client.files.create(file=requests(number), purpose="batch")
            self.files.add(file.id)
            batch = await self._client.batches.create(
                input_file_id=file.id, endpoint=CHAT, completion_window="24h"
            )
            assert batch.id not in self.batches
            self.batches[batch.id] = number
            found = await answered(self._client, batch.id)
            assert found == [str(number) for number in range(LINES)]

    async def _stream(self) -> None:
        while not self._stopped:
            number = next(self._numbers)
            self.streams[number] = await self._text(f"s{number} {WORDS}")

    async def _text(self, content: str) -> str:
        """Reads a stream, again from its start if the connection breaks."""
        asked = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
        headers: dict[str, str] = {}
        while True:
            found = ""
            try:
                stream = await self._client.chat.completions.create(
                    **asked, stream=True, extra_headers=headers
                )
                async for chunk in stream:
                    found += chunk.choices[0].delta.content or ""
            except (httpx2.TransportError, openai.APIConnectionError):
                headers = {"x-stainless-retry-count": "1"}
            except openai.APIError as error:
                return str(error.code)
            else:
                return found

    async def _walk(self) -> None:
        """Reads the lists. Each object is there once, and none is missing."""
        while not self._stopped:
            for resource, known in (
                (self._client.batches, set(self.batches)),
                (self._client.files, set(self.files)),
            ):
                found = [entry.id async for entry in resource.list(limit=7)]
                assert len(found) == len(set(found))
                assert known <= set(found)
            self.walks += 1


async def answered(client: Any, batch_id: str) -> list[str]:
    """Waits until the batch has ended. Returns the ids in its output file."""
    batch: Any = None

    async def has_ended() -> bool:
        nonlocal batch
        batch = await client.batches.retrieve(batch_id)
        return bool(batch.status != "in_progress")

    await eventually(has_ended, 60)
    assert (batch.status, batch.error_file_id) == ("completed", None)
    content = await client.files.content(batch.output_file_id)
    return [json.loads(line)["custom_id"] for line in content.text.splitlines()]


@pytest.mark.parametrize("name", PROXIES if FULL else PROXIES[:1])
async def test_nothing_is_lost_or_paid_for_twice_with_two_apis(stack: Start, name: str) -> None:
    """Only the calls that a killed worker was making are made again.

    A stream is among them only if its API was killed, too: then the client has not received the
    error, and repeats the call, which has failed.
    """
    # The leases are long enough for a machine with a high load.
    deployment = await stack(workers=2, MAX_CONCURRENT_REQUESTS="20", LEASE_SECONDS="4")
    second = await deployment.another_api()
    await deployment.simulate(latency_ms=100, chunk_ms=20)
    interrupted: set[str] = set()
    async with AsyncExitStack() as exits:
        apis = [deployment.api.base_url, second.base_url]
        url = await exits.enter_async_context(reverse_proxy(name, apis, timeout_s=60))
        client = await exits.enter_async_context(
            openai.AsyncOpenAI(
                base_url=f"{url}/v1",
                api_key="x",
                max_retries=10,
                _strict_response_validation=True,
            )
        )
        load = Load(client)
        async with load.running():
            for _ in range(ROUNDS):
                done = (len(load.batches), len(load.streams), load.walks)
                deployment.api_process.kill()
                await deployment.api_process.wait()
                await deployment.restart_api()

                worker = deployment.workers.pop(0)
                stop(worker)
                stopped = now_ms()
                calls = await ledger(deployment)
                interrupted |= open_during(calls, stopped - STORE_MS, stopped)
                worker.kill()
                await worker.wait()
                await deployment.add_worker()

                async def continues(before: tuple[int, int, int] = done) -> bool:
                    now = (len(load.batches), len(load.streams), load.walks)
                    return all(new > old for new, old in zip(now, before, strict=True))

                await eventually(continues, 60)
        listed = [batch.id async for batch in client.batches.list(limit=7)]
        assert len(listed) == len(load.batches)
        assert set(listed) == set(load.batches)

    streams = {number: f"s{number} {WORDS}" for number in load.streams}
    lost = {n: found for n, found in load.streams.items() if found != f"echo: {streams[n]}"}
    assert set(lost.values()) <= {"worker_lost"}
    in_batches = {text(b, line) for b in load.batches.values() for line in range(LINES)}
    names = {item_of(content): content[:12] for content in in_batches | set(streams.values())}
    calls_of = calls_by_item(await ledger(deployment))
    assert names.keys() == calls_of.keys()
    repeated = {names[item] for item, made in calls_of.items() if len(made) > 1}
    may_be_repeated = {names[item] for item in interrupted}
    assert repeated <= may_be_repeated
    assert {streams[number][:12] for number in lost} <= may_be_repeated
