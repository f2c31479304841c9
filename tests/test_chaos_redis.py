"""Redis that dies, hangs, is full, read-only or drops its connections, under steady load."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from chaos import Load, ledger, now_ms, verify
from redis_server import Server
from stack import Stack

from shared.keys import Keys

pytestmark = pytest.mark.chaos

LIMIT = 10
SETTINGS = {"MAX_CONCURRENT_REQUESTS": str(LIMIT), "LEASE_SECONDS": "3"}

Fault = Callable[[Server, Load], Awaitable[None]]


async def restart(server: Server, _load: Load) -> None:
    await server.kill()
    await server.start()


async def be_away(server: Server, load: Load) -> None:
    await server.kill()
    await load.refusal()
    await server.start()


async def stand_still(server: Server, _load: Load) -> None:
    server.freeze()
    await asyncio.sleep(5)  # the fault itself
    server.thaw()


async def be_full(server: Server, load: Load) -> None:
    await server.client.config_set("maxmemory", "1mb")
    await load.refusal()
    await server.client.config_set("maxmemory", "0")


async def be_read_only(server: Server, load: Load) -> None:
    await server.command("REPLICAOF", "127.0.0.1", "1")
    await load.refusal()
    await server.command("REPLICAOF", "NO", "ONE")


async def reset_connections(server: Server, load: Load) -> None:
    for _ in range(5):
        await server.client.client_kill_filter(_type="pubsub")
        await server.client.client_kill_filter(_type="normal")
        await load.more(1)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory(prefix="vk-") as directory:
        server = Server(Path(directory))
        await server.start()
        yield server
        await server.stop()


@pytest.fixture
async def deployment(server: Server, keys: Keys) -> AsyncIterator[Stack]:
    deployment = Stack(server.url, keys, SETTINGS)
    try:
        await deployment.start(workers=4)
        yield deployment
    finally:
        await deployment.stop()


@pytest.mark.parametrize(
    "fault", [restart, be_away, stand_still, be_full, be_read_only, reset_connections]
)
async def test_redis_in_trouble(deployment: Stack, server: Server, fault: Fault) -> None:
    """Nothing that was accepted is lost, all recover by themselves. Calls that went on meanwhile
    may be made again: their leases may have ended before their answers could be stored."""
    await deployment.simulate(latency_ms=200, latency_spread_ms=100)
    load = Load(deployment)
    async with load.steady():
        began_ms = now_ms()
        await fault(server, load)
        over_ms = now_ms()
        await load.more(12)

    for process in (deployment.api_process, *deployment.workers):
        assert process.returncode is None
    hit = {call.item for call in await ledger(deployment) if call.overlaps(began_ms, over_ms)}
    may_repeat = hit if over_ms - began_ms > 1000 else set()
    await verify(deployment, load, limit=LIMIT, may_repeat=may_repeat)
