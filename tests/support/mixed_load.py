"""Creates a steady load of uploads, batches and event streams of several owners on several APIs."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import orjson

from support.load import BATCH, POLL_S, Load
from support.stack import DEADLINE_S, Stack, chat, eventually

LARGE = 150  # number of requests in an upload; a batch may have at most 100


class MixedLoad(Load):
    """Runs clients that upload jobs, wait for batches and read event streams.

    The clients must not notice a fault. They send each request with an idempotency key, and repeat
    it until it is accepted. If a stream breaks, they continue it after its last line.
    """

    def __init__(self, stack: Stack, apis: Mapping[str, Sequence[httpx.AsyncClient]]) -> None:
        """Creates a load without starting the clients.

        apis: HTTP clients of each owner, one per API.
        """
        super().__init__(stack)
        self._apis = apis
        self._owners = list(apis)
        self._owner_of: dict[str, str] = {}

    async def status(self, job_id: str) -> dict[str, Any]:
        """Returns the job. Adds the results of a large job, which the API only streams."""
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
        """Uploads the same job twice, which creates one job, and reads its results.

        The results are read in the order in which the items finish.
        """
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
            if answer.status_code == 200:  # otherwise the API is stopping, or Redis is unavailable
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
        """Yields complete lines until the stream ends or breaks."""
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
        """Sends the request to the APIs, in random order, until one of them accepts it."""
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
