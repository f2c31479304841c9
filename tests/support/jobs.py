"""Submits and reads jobs like a client."""

import json
from collections.abc import Iterable
from typing import Any

import httpx

from support.stack import DEADLINE_S, Stack, chat, eventually

NDJSON = {"Content-Type": "application/x-ndjson"}

Event = dict[str, Any]


def lines(contents: Iterable[str], **fields: Any) -> bytes:
    """Returns NDJSON for `POST /jobs`: one request per line."""
    return b"".join(json.dumps(chat(text, **fields)).encode() + b"\n" for text in contents)


def ndjson(requests: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


async def upload(client: httpx.AsyncClient, body: bytes, **options: Any) -> str:
    """Submits a job. Returns the path of the job."""
    options.setdefault("headers", NDJSON)
    answer = await client.post("/jobs", content=body, **options)
    assert answer.status_code == 202, answer.text
    location: str = answer.headers["location"]
    return location


async def upload_slow_job(stack: Stack, **fields: Any) -> str:
    """Submits a job of 300 requests that runs for some seconds. Returns its location."""
    await stack.simulate(latency_ms=400, latency_spread_ms=300)
    return await upload(stack.api, lines((str(n) for n in range(300)), **fields))


async def job(client: httpx.AsyncClient, location: str) -> dict[str, Any]:
    """Returns the job, and checks that the sum of its counts is the number of its requests."""
    answer = await client.get(location)
    assert answer.status_code == 200, answer.text
    status: dict[str, Any] = answer.json()
    counts = ("queued", "running", "successful", "failed")
    assert sum(status[name] for name in counts) == status["total_requests"]
    return status


async def wait_completed(client: httpx.AsyncClient, location: str) -> dict[str, Any]:
    """Waits until the job has completed, and returns the job."""

    async def has_completed() -> bool:
        answer = await client.get(location)
        assert answer.status_code in {200, 503}, answer.text  # Redis may be slow on a busy machine
        return answer.status_code == 200 and answer.json()["finished_at"] is not None

    await eventually(has_completed, 2 * DEADLINE_S)
    return await job(client, location)


async def results(client: httpx.AsyncClient, location: str, **query: Any) -> list[dict[str, Any]]:
    """Returns the results up to the end of the stream."""
    answer = await client.get(f"{location}/results", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.text == "" or answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


class Events:
    """Decodes server-sent events line by line."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.comments = 0

    def feed(self, line: str) -> Event | None:
        """Returns an event if `line` completes an event."""
        if line.startswith(":"):
            self.comments += 1
        elif line:
            self._lines.append(line)
        elif self._lines:
            fields = dict(line.split(": ", 1) for line in self._lines)
            self._lines = []
            return {**fields, "data": json.loads(fields["data"])}
        return None


async def events(
    client: httpx.AsyncClient, location: str, *, after: str | None = None, limit: int | None = None
) -> list[Event]:
    """Returns the events up to the end of the stream, but at most `limit` events."""
    found: list[Event] = []
    headers = {} if after is None else {"Last-Event-ID": after}
    reader = Events()
    async with client.stream("GET", f"{location}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if event := reader.feed(line):
                found.append(event)
            if len(found) == limit:
                break
    return found


def parsed(text: str) -> list[Any]:
    """Returns the JSON values of the lines."""
    return [json.loads(line) for line in text.splitlines()]


async def job_ids(deployment: Stack) -> list[str]:
    """Returns the ids of the jobs, newest first."""
    found = (await deployment.api.get("/jobs")).json()["jobs"]
    return [job["job_id"] for job in found]
