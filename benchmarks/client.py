"""Sends requests for the benchmarks, with little CPU time, because this would distort them."""

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

PROMPT = "What does it cost to ask this? " * 6  # 186 characters

_numbers = count()


def batch(size: int, *, provider: str = "openrouter", distinct: int | None = None) -> bytes:
    """Returns the body of a batch.

    distinct: number of different prompts of the whole process. Default: each prompt is different.
    """
    numbers = (next(_numbers) for _ in range(size))
    return orjson.dumps(
        {
            "requests": [
                {
                    "provider": provider,
                    "model": "m",
                    "messages": [
                        {
                            "role": "user",
                            "content": f"{PROMPT}{number % distinct if distinct else number}",
                        }
                    ],
                }
                for number in numbers
            ]
        }
    )


def lines(count: int, size: int) -> bytes:
    """Returns NDJSON of `count` lines of about `size` bytes each."""
    text = "x" * (size - 110)
    request = {"provider": "openrouter", "model": "m"}
    return b"".join(
        orjson.dumps(
            {**request, "messages": [{"role": "user", "content": f"{next(_numbers)} {text}"}]}
        )
        + b"\n"
        for _ in range(count)
    )


class Client:
    """Calls the API of one system."""

    def __init__(self, url: str, *, key: str = "") -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=600,
            transport=AiohttpTransport(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
        )

    async def run(self, body: bytes, size: int) -> float:
        """Posts a batch and checks that every request was answered. Returns the duration in s."""
        started = time.perf_counter()
        answer = await self._http.post("/batch", content=body)
        took_s = time.perf_counter() - started
        if answer.status_code != httpx.codes.OK or answer.json()["successful"] != size:
            raise RuntimeError(f"a batch of {size} failed: {answer.status_code}")
        return took_s

    async def outcome(self, body: bytes) -> int:
        """Posts a batch in which requests may fail. Returns the number of answered requests."""
        successful: int = (await self._http.post("/batch", content=body)).json()["successful"]
        return successful

    async def submit(self, body: bytes) -> str:
        """Posts a batch without waiting. Returns the job's id."""
        answer = await self._http.post("/batch", content=body, params={"mode": "async"})
        if answer.status_code != httpx.codes.ACCEPTED:
            raise RuntimeError(f"a batch was refused: {answer.status_code}")
        return answer.headers["location"].removeprefix("/jobs/")

    async def upload(self, body: bytes) -> str:
        """Posts NDJSON. Returns the job's id."""
        headers = {"Content-Type": "application/x-ndjson"}
        answer = await self._http.post("/jobs", content=body, headers=headers)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise RuntimeError(f"an upload was refused: {answer.status_code}")
        return answer.headers["location"].removeprefix("/jobs/")

    async def upload_file(self, body: bytes | AsyncIterator[bytes]) -> str:
        """Uploads a file of requests with OpenAI's API. Returns the file's id."""
        boundary = "8ae41d5f"
        start = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        )

        async def form() -> AsyncIterator[bytes]:
            yield start.encode()
            if isinstance(body, bytes):
                yield body
            else:
                async for chunk in body:
                    yield chunk
            yield f"\r\n--{boundary}--\r\n".encode()

        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        answer = await self._http.post("/v1/files", content=form(), headers=headers)
        answer.raise_for_status()
        return str(answer.json()["id"])

    async def create_batch(self, body: bytes) -> str:
        """Uploads a file and creates a batch with OpenAI's API. Returns the batch's id."""
        new = {
            "input_file_id": await self.upload_file(body),
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        answer = (await self._http.post("/v1/batches", json=new)).raise_for_status().json()
        if answer["status"] == "failed":
            raise RuntimeError(f"a batch was refused: {answer['errors']}")
        return str(answer["id"])

    async def batch_answers(self, body: bytes) -> int:
        """Runs a batch through `/v1/batches`. Returns the number of lines in its output file."""
        batch_id = await self.create_batch(body)
        while True:
            found = (await self._http.get(f"/v1/batches/{batch_id}")).json()
            if found["status"] != "in_progress":
                break
            await asyncio.sleep(0.1)
        path = f"/v1/files/{found['output_file_id']}/content"
        return (await self._http.get(path)).raise_for_status().content.count(b"\n")

    async def results(self, job_id: str, result_format: str) -> int:
        """Reads the results of a job until the job has ended. Returns their number."""
        lines, params = 0, {"format": result_format}
        async with self._http.stream("GET", f"/jobs/{job_id}/results", params=params) as answer:
            answer.raise_for_status()
            async for chunk in answer.aiter_bytes():
                lines += chunk.count(b"\n")
        return lines

    async def successful(self, job_id: str) -> int:
        """Returns the number of the job's requests that have been answered so far."""
        answered: int = (await self.job(job_id))["successful"]
        return answered

    async def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = (await self._http.get(f"/jobs/{job_id}")).json()
        return job

    async def call(self, path: str, body: bytes) -> float:
        """Sends a POST request. Returns its duration in s."""
        started = time.perf_counter()
        answer = await self._http.post(path, content=body)
        answer.raise_for_status()
        return time.perf_counter() - started

    async def submit_many(self, items: int, *, concurrency: int = 8) -> None:
        """Submits `items` requests in batches of 100, and waits for no results.

        items: a multiple of 100.
        concurrency: number of batches that are posted at the same time.
        """
        jobs = iter(range(items // 100))

        async def submit_batches() -> None:
            for _ in jobs:
                await self.submit(batch(100))

        await asyncio.gather(*(submit_batches() for _ in range(concurrency)))

    async def close(self) -> None:
        await self._http.aclose()
