"""Measures the memory and the delays of an API process whose clients are slow or send much.

Each situation has an API process of its own. Another process asks for `/health` all the time.
"""

import asyncio
import multiprocessing
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from multiprocessing.synchronize import Event
from typing import TYPE_CHECKING

import orjson
import psutil
import redis.asyncio
from yarl import URL

from benchmarks.client import Client, batch
from benchmarks.measured_values import Figure, Sample
from benchmarks.provider import Provider
from benchmarks.systems import System, orchestrator
from shared.queue.redis_keys import Keys

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

MAX_MB = 150
ANSWERS = 20  # answers of the job that the slow readers read
READ_BYTES, READ_EVERY_S = 8 * 1024, 0.25  # twice the rate below which a reader is disconnected
PROBE_EVERY_S = 0.01


@dataclass(frozen=True, slots=True)
class Sizes:
    """window_s: time for which the slow readers read."""

    window_s: float = 20
    # The number of readers, and the number of characters of each answer that they read.
    readers: tuple[tuple[int, int], ...] = ((8, 3_500_000), (300, 200_000))
    batch_characters: int = 170_000  # number of characters of each of 100 requests
    connections: int = 300
    head_bytes: int = 3_000_000


SMOKE = Sizes(1, ((2, 300_000),), 5_000, 5, 200_000)


@dataclass(slots=True)
class Watched:
    """Holds the memory of an API process, and the time of the slowest health check.

    idle: bytes at rest. peak: the highest number of bytes above `idle`.
    """

    idle: int
    peak: int = 0
    slowest_s: float = 0.0


async def memory(provider: Provider, sizes: Sizes) -> list[Figure]:
    figures: list[Figure] = []
    async with orchestrator(provider, 100, 0) as system:
        for number, answer in sizes.readers:
            async with _new_api(system):
                path = await _finished_job(system, answer)
                with _watched(system) as watched:
                    await _read_slowly(system, path, number, sizes.window_s)
            name = f"{number} slow readers of answers of {answer / 1e6:g} MB"
            figures += _figures(name, watched, max_ms=100)
        async with _new_api(system):
            with _watched(system) as watched:
                size = await _post_large_batch(system, sizes.batch_characters)
        figures += _figures(f"a batch of {size / 1e6:.1f} MB", watched, max_ms=250)
        async with _new_api(system):
            with _watched(system) as watched:
                await _send_heads(system, sizes.connections, sizes.head_bytes)
        name = f"{sizes.connections} connections, {sizes.head_bytes / 1e6:g} MB of headers each"
        figures += _figures(name, watched, max_ms=100)
    return figures


def _figures(name: str, watched: Watched, *, max_ms: float) -> list[Figure]:
    peak_mb, slowest_ms = watched.peak / 1e6, watched.slowest_s * 1000
    rows = [
        ("memory at rest", "MB", "", watched.idle / 1e6, None),
        ("most memory above that", "MB", f"≤ {MAX_MB}", peak_mb, peak_mb <= MAX_MB),
        ("slowest `/health`", "ms", f"≤ {max_ms:g}", slowest_ms, slowest_ms <= max_ms),
    ]
    return [
        Figure(f"{name}: {what}", unit, target, {"c": Sample.of([value])}, met)
        for what, unit, target, value, met in rows
    ]


@asynccontextmanager
async def _new_api(system: System) -> AsyncIterator[None]:
    """Replaces the API process. A first request loads what the process loads only when needed."""
    for process in list(system.processes.by_role["api"]):
        await system.processes.stop("api", process.pid)
    await system.add_api()
    client = Client(system.url)
    await client.submit(batch(1))
    await client.close()
    yield


@contextmanager
def _watched(system: System) -> Iterator[Watched]:
    """Yields the figures. `peak` and `slowest_s` are set when the block has ended.

    The watcher is a process of its own, because the clients in this process would delay it.
    """
    [api] = system.processes.by_role["api"]
    spawning = multiprocessing.get_context("spawn")
    stop, found = spawning.Event(), spawning.SimpleQueue()
    watcher = spawning.Process(target=_watch, args=(system.url, api.pid, stop, found))
    watcher.start()
    watched: Watched = found.get()  # the watcher has begun
    try:
        yield watched
    finally:
        stop.set()
        last: Watched = found.get()
        watched.peak, watched.slowest_s = last.peak, last.slowest_s
        watcher.join()


def _watch(url: str, pid: int, stop: Event, figures: "SimpleQueue[Watched]") -> None:
    process, address = psutil.Process(pid), URL(url)
    connection = HTTPConnection(address.host or "", address.port, timeout=60)
    found = Watched(process.memory_info().rss)
    figures.put(found)
    while True:
        started = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        found.slowest_s = max(found.slowest_s, time.perf_counter() - started)
        found.peak = max(found.peak, process.memory_info().rss - found.idle)
        if stop.wait(PROBE_EVERY_S):
            break
    connection.close()
    figures.put(found)


async def _finished_job(system: System, answer: int) -> str:
    """Creates a job, and writes its results as a worker would. Returns the job's path.

    answer: number of characters of each answer.
    """
    client = Client(system.url)
    job_id, keys = await client.submit(batch(ANSWERS)), Keys()
    await client.close()
    server = redis.asyncio.from_url(system.redis_url)  # type: ignore[no-untyped-call]
    result = b"1 " + orjson.dumps({"content": "x" * answer})
    for index in range(ANSWERS):
        await server.hset(keys.results(job_id), str(index), result)
    await server.rpush(keys.completion_order(job_id), *range(ANSWERS))
    await server.hset(keys.job(job_id), "finished_ms", "1")
    await server.aclose()
    return f"/jobs/{job_id}"


async def _read_slowly(system: System, path: str, number: int, window_s: float) -> None:
    """Reads the job with one half of the readers, and its stream of results with the other."""
    paths = [path, f"{path}/results"]
    async with asyncio.TaskGroup() as readers:
        for index in range(number):
            readers.create_task(_reader(system.url, paths[index % 2], window_s))


async def _reader(url: str, path: str, window_s: float) -> None:
    loop = asyncio.get_running_loop()
    with await _connected(url) as reader:
        await loop.sock_sendall(reader, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        until = loop.time() + window_s
        while loop.time() < until and await loop.sock_recv(reader, READ_BYTES):
            await asyncio.sleep(READ_EVERY_S)


async def _post_large_batch(system: System, characters: int) -> int:
    """Posts 100 requests of `characters` characters each. Returns the size of the body in bytes."""
    text = "word " * 10_000  # as long as a text may be
    texts = [text[: min(50_000, left)] for left in range(characters, 0, -50_000)]
    messages = [{"role": "user", "content": text} for text in texts]
    request = {"provider": "openrouter", "model": "m", "messages": messages}
    body = orjson.dumps({"requests": [request] * 100})
    client = Client(system.url)
    await client.submit(body)
    await client.close()
    return len(body)


async def _send_heads(system: System, connections: int, size: int) -> None:
    headers = b"".join(b"h%d:x\r\n" % number for number in range(8_000))
    request = b"GET /overview HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers * (size // len(headers))

    async def send() -> None:
        loop = asyncio.get_running_loop()
        with await _connected(system.url) as client, suppress(ConnectionError):
            await loop.sock_sendall(client, request)

    await asyncio.gather(*(send() for _ in range(connections)))


async def _connected(url: str) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)  # noqa: FBT003
    address = URL(url)
    await asyncio.get_running_loop().sock_connect(client, (address.host, address.port))
    return client
