"""Creates a steady load: clients post jobs and read the answers while a test causes a fault."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Self

import httpx

from cli.simulator.chat import item_of
from support.stack import DEADLINE_S, Stack, chat, eventually

CLIENTS = 6
BATCH = 10
POLL_S = 0.2  # more polls would keep a busy machine from the work that they wait for


class Load:
    """Runs clients that post jobs one after another, and poll each job until it completes.

    Attributes:
        jobs: The contents of the requests of each accepted job, by job id.
        answers: The completed job as its client has read it, by job id.
        refused: The number of refusals by HTTP status; 0 stands for a broken connection.
        lost: The ids of accepted jobs that Redis has lost.
        unsure: The items of refused batches and lost jobs. The provider may have been called for
            them.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        name: str = "",
        provider: str = "openrouter",
        lossy: bool = False,
    ) -> None:
        """Creates a load without starting the clients.

        name: prefix of the prompts, different for each load of a test.
        lossy: True: Redis may lose accepted jobs.
        """
        self._stack = stack
        self._name = name
        self._provider = provider
        self._lossy = lossy
        self._posting = True
        self._numbers = count()
        self.jobs: dict[str, list[str]] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.refused: Counter[int] = Counter()
        self.lost: set[str] = set()
        self.unsure: set[str] = set()

    @asynccontextmanager
    async def steady(self, *, clients: int = CLIENTS, after: int = CLIENTS) -> AsyncIterator[Self]:
        """Runs the clients. Yields when `after` jobs have completed, and returns when all have."""
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client())
            await self.more(after)
            yield self
            self._posting = False

    async def more(self, jobs: int) -> None:
        """Waits until `jobs` more jobs have completed, which shows that the deployment works."""
        goal = len(self.answers) + jobs

        async def reached() -> bool:
            return len(self.answers) >= goal

        await eventually(reached)

    async def adopt(self, job_id: str, contents: list[str] | None = None) -> None:
        """Adds a job that the test itself has posted, and waits until the job completes.

        contents: contents of the job's requests. Default: the contents that the answers repeat.
        """
        job = await self._completed(job_id)
        assert job
        self.answers[job_id] = job
        echoed = [response["content"].removeprefix("echo: ") for response in job["responses"]]
        self.jobs[job_id] = contents or echoed

    async def refusal(self) -> None:
        """Posts batches until one is refused."""
        while await self._one_job():
            pass

    async def ask_again(self) -> list[dict[str, Any]]:
        """Reads every job again. Returns the earlier state of each job that has changed.

        A job changes only if Redis has lost data. If Redis has lost the job, the job is added to
        `lost`. If it has lost results, the job has completed a second time, and `answers` gets the
        new state.
        """
        changed = []
        for job_id, before in list(self.answers.items()):
            status = await self._completed(job_id)
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
        while self._posting:
            if not await self._one_job():
                await asyncio.sleep(POLL_S)

    async def _one_job(self) -> bool:
        """Posts a job and waits until it completes. Returns False if the job was refused."""
        number = next(self._numbers)
        contents = [f"{self._name}{number}-{index}" for index in range(BATCH)]
        job_id = await self._post(contents)
        if job_id is None:
            return False
        self.jobs[job_id] = contents
        if status := await self._completed(job_id):
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

    async def _completed(self, job_id: str) -> dict[str, Any] | None:
        """Polls the job until it completes. Returns None if Redis has lost the job."""
        status: dict[str, Any] = {}

        async def completed() -> bool:
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

        await eventually(completed, 2 * DEADLINE_S)
        return status or None
