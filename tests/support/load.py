"""What every fault must leave whole: steady load, and the comparison of what clients were told,
what the provider saw (the simulator's ledger) and what Redis holds."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import orjson
import psutil

from cli.simulator.dialects import item_of
from shared.redis.client import connect
from support.stack import DEADLINE_S, Stack, chat, eventually

CLIENTS = 6
BATCH = 10
LARGE = 150  # more than a batch may have
POLL_S = 0.05
STORE_MS = 300  # in which an answer reaches Redis, on a busy machine


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the ledger; times in ms of `time.monotonic`, which all processes share."""

    item: str
    dialect: str
    client: int
    start_ms: float
    end_ms: float | None
    outcome: int | str | None

    def overlaps(self, start_ms: float, end_ms: float) -> bool:
        return self.start_ms <= end_ms and (self.end_ms is None or self.end_ms >= start_ms)


def now_ms() -> float:
    return time.monotonic() * 1000


async def ledger(stack: Stack) -> list[Call]:
    return [Call(**line) for line in (await stack.simulator.get("/_sim/ledger")).json()]


def ports(process: asyncio.subprocess.Process) -> set[int]:
    """Of the TCP connections that the process holds, on its side."""
    connections = psutil.Process(process.pid).net_connections("tcp")
    return {connection.laddr.port for connection in connections if connection.raddr}


async def open_calls(stack: Stack, *processes: asyncio.subprocess.Process) -> set[str]:
    """The items that the processes, which stand still, are calling the provider for."""
    theirs = set().union(*map(ports, processes))
    return {c.item for c in await ledger(stack) if c.end_ms is None and c.client in theirs}


async def running(stack: Stack, *processes: asyncio.subprocess.Process) -> set[str]:
    """The items that the processes, which stand still or are cut off, have called the provider for
    and not settled: the answer may be there already, and nobody but them knows of it."""
    redis, keys = connect(stack.redis_url), stack.keys
    theirs = set().union(*map(ports, processes))
    leased = set[str]()
    try:
        for _ in range(2):  # what they had sent is read before this is answered for the second time
            await redis.ping()
            calls = await ledger(stack)
        async for key in redis.scan_iter(keys.leases("*")):
            for lease in await redis.zrange(key, 0, -1):
                item_id, _, _ = lease.decode().rpartition("@")
                job_id, _, index = item_id.rpartition(":")
                payload = await redis.hget(keys.payloads(job_id), index)  # type: ignore[misc]
                if payload:  # else another process has settled it just now
                    leased.add(item_of(orjson.loads(payload)["a"][0]["messages"][-1]["content"]))
    finally:
        await redis.aclose()
    last = {call.item: call for call in calls}
    return {item for item in leased & last.keys() if last[item].client in theirs}


def open_during(calls: Iterable[Call], start_ms: float, end_ms: float) -> set[str]:
    """The items that had a call open at some moment of that time."""
    return {call.item for call in calls if call.overlaps(start_ms, end_ms)}


def calls_by_item(calls: Iterable[Call]) -> dict[str, list[Call]]:
    by_item: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_item[call.item].append(call)
    return by_item


async def busiest(stack: Stack) -> asyncio.subprocess.Process:
    """Of the workers, the one with the most open calls; waits until there is one."""
    alive = [worker for worker in stack.workers if worker.returncode is None]
    await calling(stack, *alive)
    calls = {worker: len(await open_calls(stack, worker)) for worker in alive}
    return max(alive, key=calls.__getitem__)


async def calling(stack: Stack, *processes: asyncio.subprocess.Process) -> None:
    """Waits until one of them does."""

    async def calls() -> bool:
        return bool(await open_calls(stack, *processes))

    await eventually(calls)


def peak(calls: Iterable[Call]) -> int:
    """The most that were open at one moment; a call that ends as another starts was before it."""
    changes = sorted(
        change
        for call in calls
        for change in ((call.start_ms, 1), (call.end_ms or float("inf"), -1))
    )
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


class Load:
    """Clients that keep posting jobs and ask for them until they have ended; each answer as the
    client first saw it."""

    def __init__(
        self,
        stack: Stack,
        *,
        name: str = "",
        provider: str = "openrouter",
        lossy: bool = False,
    ) -> None:
        """`name` tells its prompts from another's; `lossy`: Redis may forget jobs that it has
        accepted."""
        self._stack = stack
        self._name = name
        self._provider = provider
        self._lossy = lossy
        self._going_on = True
        self._numbers = count()
        self.jobs: dict[str, list[str]] = {}  # contents by id
        self.answers: dict[str, dict[str, Any]] = {}
        self.refused: Counter[int] = Counter()  # by status; 0: no answer at all
        self.lost: set[str] = set()  # ids of jobs that Redis has forgotten
        self.unsure: set[str] = set()  # items of batches that a refusal may not have kept out

    @asynccontextmanager
    async def steady(
        self, *, clients: int = CLIENTS, ended: int = CLIENTS
    ) -> AsyncIterator["Load"]:
        """From when so many jobs have ended, to when all have."""
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client())
            await self.more(ended)
            yield self
            self._going_on = False

    async def more(self, jobs: int) -> None:
        """Waits until so many more jobs have ended: the deployment works."""
        goal = len(self.answers) + jobs

        async def ended() -> bool:
            return len(self.answers) >= goal

        await eventually(ended)

    async def adopt(self, job_id: str, contents: list[str] | None = None) -> None:
        """A job that somebody else has posted, with its contents unless they are to be read off its
        answers; waits until it has ended."""
        job = await self._ended(job_id)
        assert job
        self.answers[job_id] = job
        read = [response["content"].removeprefix("echo: ") for response in job["responses"]]
        self.jobs[job_id] = contents or read

    async def refusal(self) -> None:
        """Posts until a batch is refused."""
        while await self._one_job():
            pass

    async def ask_again(self) -> list[dict[str, Any]]:
        """For every job: the answers that Redis has forgotten since, in whole or in part. Such a
        job counts as lost, or with what it is when it has ended once more."""
        changed = []
        for job_id, before in list(self.answers.items()):
            status = await self._ended(job_id)
            if status != before:
                changed.append(before)
            if status:
                self.answers[job_id] = status
            else:
                self._forget(job_id)
        return changed

    async def status(self, job_id: str) -> dict[str, Any]:
        status: dict[str, Any] = (await self._stack.api.get(f"/jobs/{job_id}")).json()
        return status

    async def _client(self) -> None:
        while self._going_on:
            if not await self._one_job():
                await asyncio.sleep(POLL_S)

    async def _one_job(self) -> bool:
        """False: it was refused."""
        number = next(self._numbers)
        contents = [f"{self._name}{number}-{index}" for index in range(BATCH)]
        job_id = await self._post(contents)
        if job_id is None:
            return False
        self.jobs[job_id] = contents
        if status := await self._ended(job_id):
            self.answers[job_id] = status
        else:
            self._forget(job_id)
        return True

    def _forget(self, job_id: str) -> None:
        self.lost.add(job_id)
        self.unsure.update(map(item_of, self.jobs.pop(job_id)))
        self.answers.pop(job_id, None)

    async def _post(self, contents: list[str]) -> str | None:
        requests = [chat(content, provider=self._provider) for content in contents]
        try:
            answer = await self._stack.batch(requests, params={"mode": "async"})
        except httpx.TransportError:
            self.refused[0] += 1
            self.unsure.update(map(item_of, contents))
            return None
        job_id = answer.headers.get("location", "").removeprefix("/jobs/")
        if not job_id:
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) > 0
            self.refused[answer.status_code] += 1
            self.unsure.update(map(item_of, contents))
        return job_id or None

    async def _ended(self, job_id: str) -> dict[str, Any] | None:
        """None: it is lost."""
        status: dict[str, Any] = {}

        async def ended() -> bool:
            try:
                answer = await self._stack.api.get(f"/jobs/{job_id}")
            except httpx.TransportError:
                return False
            if answer.status_code == 404 and self._lossy:
                status.clear()
                return True
            assert answer.status_code in {200, 503}, answer.text
            if answer.status_code == 200:
                status.update(answer.json())
            await asyncio.sleep(POLL_S)
            return status.get("finished_at") is not None

        await eventually(ended, 2 * DEADLINE_S)
        return status or None


class MixedLoad(Load):
    """Jobs of every kind, of several owners, at several APIs: uploads, batches that are waited for
    and batches whose events are read. Every request has an idempotency key and is repeated until
    it is accepted, every stream is gone on with where it broke: nobody notices any fault."""

    def __init__(self, stack: Stack, apis: Mapping[str, Sequence[httpx.AsyncClient]]) -> None:
        """`apis`: by owner."""
        super().__init__(stack)
        self._apis = apis
        self._owners = list(apis)
        self._owner_of: dict[str, str] = {}

    async def status(self, job_id: str) -> dict[str, Any]:
        """Of a large job with its results."""
        owner, location = self._owner_of[job_id], f"/jobs/{job_id}"
        status: dict[str, Any] = (await self._repeat(owner, "GET", location)).json()
        if status["responses"] is None:
            lines = (await self._repeat(owner, "GET", f"{location}/results")).text.splitlines()
            status["responses"] = [orjson.loads(line) for line in lines]
        return status

    async def _one_job(self) -> bool:
        number = next(self._numbers)
        owner = self._owners[number % len(self._owners)]
        kinds = (self._upload, self._wait, self._events)
        job_id, contents = await kinds[number // 2 % len(kinds)](owner, number)
        self.jobs[job_id] = contents
        self._owner_of[job_id] = owner
        self.answers[job_id] = await self.status(job_id)
        return True

    async def _upload(self, owner: str, number: int) -> tuple[str, list[str]]:
        """More than once: it is one job. Its results come as they end."""
        contents = [f"{number}-{index}" for index in range(LARGE)]
        body = b"".join(orjson.dumps(chat(text)) + b"\n" for text in contents)
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"{number}"}
        ids = {
            (await self._repeat(owner, "POST", "/jobs", content=body, headers=headers)).json()[
                "job_id"
            ]
            for _ in range(2)
        }
        [job_id] = ids
        lines: list[dict[str, Any]] = []
        while len(lines) < LARGE:
            path = f"/jobs/{job_id}/results?order=completion&after={len(lines)}"
            async for line in self._lines(owner, path):
                lines.append(orjson.loads(line))
                assert lines[-1]["cursor"] == len(lines)
        assert sorted(line["index"] for line in lines) == list(range(LARGE))
        return job_id, contents

    async def _wait(self, owner: str, number: int) -> tuple[str, list[str]]:
        contents = [f"{number}-{index}" for index in range(BATCH)]
        body = {"requests": [chat(text) for text in contents]}
        headers = {"Idempotency-Key": f"{number}"}
        while True:
            answer = await self._repeat(owner, "POST", "/batch", json=body, headers=headers)
            if answer.status_code == 200:  # else the API stops, or cannot see Redis
                return answer.json()["job_id"], contents

    async def _events(self, owner: str, number: int) -> tuple[str, list[str]]:
        contents = [f"{number}-{index}" for index in range(BATCH)]
        body = {"requests": [chat(text, provider="ollama") for text in contents]}
        headers = {"Idempotency-Key": f"{number}", "Prefer": "respond-async"}
        answer = await self._repeat(owner, "POST", "/batch", json=body, headers=headers)
        job_id: str = answer.json()["job_id"]
        seen = 0
        while seen <= BATCH:
            async for line in self._lines(owner, f"/jobs/{job_id}/events", str(seen)):
                if line.startswith("id: "):
                    seen += 1
                    assert line == f"id: {seen}"
        return job_id, contents

    async def _lines(self, owner: str, path: str, seen: str = "0") -> AsyncIterator[str]:
        """Complete ones, until the stream ends or breaks."""
        api, headers = random.choice(self._apis[owner]), {"Last-Event-ID": seen}
        try:
            async with api.stream("GET", path, headers=headers) as answer:
                if answer.status_code == 200:
                    rest = ""
                    async for text in answer.aiter_text():
                        *lines, rest = (rest + text).split("\n")
                        for line in lines:
                            yield line
                else:
                    assert answer.status_code == 503
        except httpx.TransportError:
            await asyncio.sleep(POLL_S)

    async def _repeat(self, owner: str, method: str, path: str, **request: Any) -> httpx.Response:
        """At any API, until one answers."""
        answers: list[httpx.Response] = []

        async def answered() -> bool:
            api = random.choice(self._apis[owner])
            try:
                answer = await api.request(method, path, **request)
            except httpx.TransportError:
                return False
            assert answer.status_code in {200, 202, 503}, answer.text
            await asyncio.sleep(0 if answer.is_success else POLL_S)
            answers.append(answer)
            return answer.is_success

        await eventually(answered, 2 * DEADLINE_S)
        return answers[-1]


async def verify(
    stack: Stack,
    *loads: Load,
    limit: int,
    may_repeat: Collection[str] = (),
    beyond_limit: Collection[str] = (),
    failed: Collection[str] = (),
) -> list[Call]:
    """The invariants, when the loads have ended. `may_repeat`: items that ran where the fault hit;
    `beyond_limit`: those whose first calls are in addition to it; `failed`: contents that must have
    ended with an error. Returns the ledger."""

    async def idle() -> bool:
        return bool((await stack.stats())["in_flight"] == 0)

    await eventually(idle)
    calls = await ledger(stack)
    assert (await stack.stats())["total"] == len(calls)  # the ledger is whole
    by_item = calls_by_item(calls)
    extra = {id(by_item[item][0]) for item in beyond_limit}
    for dialect in ("openrouter", "ollama"):
        counted = (call for call in calls if call.dialect == dialect and id(call) not in extra)
        assert peak(counted) <= limit
    jobs = {job_id: contents for load in loads for job_id, contents in load.jobs.items()}
    answers = {job_id: answer for load in loads for job_id, answer in load.answers.items()}
    assert jobs.keys() == answers.keys()
    of = {job_id: load for load in loads for job_id in load.jobs}
    for job_id, contents in jobs.items():
        job = await of[job_id].status(job_id)
        assert job == answers[job_id]  # nothing that has ended changes
        assert (job["status"], job["queued"], job["running"]) == ("completed", 0, 0)
        assert job["failed"] == len(set(contents) & set(failed))
        assert job["successful"] + job["failed"] == job["total_requests"] == len(contents)
        for content, response in zip(contents, job["responses"], strict=True):
            answer = "" if content in failed else f"echo: {content}"
            assert (response["content"], bool(response["error"])) == (answer, content in failed)
            item = item_of(content)
            if item not in may_repeat:
                assert len(by_item[item]) == response["attempts"], content
    known = {item_of(content) for contents in jobs.values() for content in contents}
    assert by_item.keys() <= known.union(*(load.unsure for load in loads))
    await _verify_redis(stack, jobs)
    return calls


async def _verify_redis(stack: Stack, jobs: dict[str, list[str]]) -> None:
    """Nothing is left but results, each once."""
    redis, keys = connect(stack.redis_url), stack.keys

    async def drained() -> bool:
        lines = (keys.depth, keys.leases, keys.quarantine, keys.deferred)
        for pattern in (keys.queue("*", "*"), *(line("*") for line in lines)):
            async for _ in redis.scan_iter(pattern):
                return False
        return True

    try:
        await eventually(drained)
        for job_id, contents in jobs.items():
            results = await redis.hkeys(keys.results(job_id))  # type: ignore[misc]
            assert sorted(map(int, results)) == list(range(len(contents)))
            assert await redis.hexists(keys.job(job_id), "finished_ms")  # type: ignore[misc]
    finally:
        await redis.aclose()
