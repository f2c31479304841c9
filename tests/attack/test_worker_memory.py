"""Tests how much memory the answers of a provider can take in a worker, and that leases stay."""

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson
import psutil
import pytest
from arq.connections import ArqRedis
from support.jobs import lines, upload
from support.raw_server import http, raw
from support.search_depth import FULL
from support.stack import Start, eventually
from support.watch import in_background

from shared.queue.redis_keys import Keys

MIB = 1024 * 1024
BUDGET = (512 if FULL else 64) * MIB
CALLS = 40 if FULL else 6
LEASE_S = 15  # a busy machine needs seconds to store the answers


def answer(content: str) -> bytes:
    message = {"role": "assistant", "content": content}
    return orjson.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})


def large() -> bytes:
    return http(answer("x" * (16 * MIB - 1000)))


def bomb() -> bytes:
    packer = zlib.compressobj(9)
    packed = [*(packer.compress(b" " * MIB) for _ in range(100)), packer.flush()]
    return http(b"".join(packed), "Content-Encoding: deflate")


def choices() -> bytes:
    return http(b'{"choices":[' + b"{}," * 1_900_000 + b"{}]}")


def not_json() -> bytes:
    return http(b"[" + b'"\\n",' * 3_000_000)


@dataclass
class Memory:
    most: int = 0  # bytes above the memory at the start


@contextmanager
def memory_of(pid: int) -> Iterator[Memory]:
    """Reads the memory of a process in a thread, again and again, until the block ends."""
    found, process = Memory(), psutil.Process(pid)
    idle = process.memory_info().rss

    def check(stop: threading.Event) -> None:
        while not stop.wait(0.01):
            found.most = max(found.most, process.memory_info().rss - idle)

    with in_background(check):
        yield found


@pytest.mark.parametrize(
    ("response", "calls", "error_code", "limit"),
    [
        pytest.param(large, CALLS, None, BUDGET + 50 * MIB, id="large"),
        pytest.param(bomb, CALLS, "answer_too_large", BUDGET + 50 * MIB, id="bombs"),
        pytest.param(choices, 3, "answer_too_large", 100 * MIB, id="choices"),
        pytest.param(not_json, 1, "bad_response", 100 * MIB, id="not JSON"),
    ],
)
async def test_answers_take_little_memory_and_cost_no_lease(
    stack: Start,
    redis: ArqRedis,
    keys: Keys,
    response: Callable[[], bytes],
    calls: int,
    error_code: str | None,
    limit: int,
) -> None:
    async with raw(response()) as provider:
        deployment = await stack(
            workers=1,
            OPENAI_BASE_URL=provider.url,
            OPENAI_API_KEY="k",
            WORKER_MEMORY_BYTES=str(BUDGET),
            MAX_CONCURRENT_REQUESTS="100",
            # An answer that is too large is final without this, but an incomplete one is not.
            MAX_RETRIES="0" if error_code == "bad_response" else "3",
            LEASE_SECONDS=str(LEASE_S),
        )
        with memory_of(deployment.workers[0].pid) as memory:
            location = await upload(deployment.api, lines(["x"] * calls, provider="openai"))
            job_id = location.removeprefix("/jobs/")

            async def has_completed() -> bool:  # the API would send all answers
                return bool(await redis.hexists(keys.job(job_id), "finished_ms"))  # type: ignore[misc]

            await eventually(has_completed, 240 if FULL else 60)
        codes = []
        for index in range(calls):
            stored = await redis.hget(keys.results(job_id), str(index))  # type: ignore[misc]
            codes.append(orjson.loads(stored.partition(b" ")[2]).get("error_code"))

    assert memory.most < limit
    assert len(provider.requests) == calls  # no lease expired, so no item ran twice
    assert codes == [error_code] * calls
