"""Tests the failure of a Redis master under load, with three real sentinels and a real replica."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.data_directory import data_directory
from support.invariants import verify
from support.ledger import STORE_MS, ledger, now_ms, open_during
from support.load import Load
from support.redis_server import SentinelServer, Server
from support.stack import Stack, eventually, free_port

from shared.queue.redis_keys import Keys

pytestmark = pytest.mark.chaos

LIMIT = 10
MASTER = "mymaster"
LAST_MOMENT = timedelta(seconds=1)  # age of the newest writes that a failover may lose
SETTINGS = {"MAX_CONCURRENT_REQUESTS": str(LIMIT), "LEASE_SECONDS": "3"}


class Cluster:
    """Runs three sentinels, the first master `redis[0]` and its replica `redis[1]`."""

    def __init__(self, directory: Path) -> None:
        first, second, *ports = (free_port() for _ in range(5))
        self.port = first
        self.redis = [
            Server(_made(directory / "0"), port=first, repl_diskless_sync_delay="0"),
            Server(_made(directory / "1"), port=second, replicaof=f"127.0.0.1 {first}"),
        ]
        self.sentinels = [
            SentinelServer(
                _made(directory / f"s{port}"), port=port, master=MASTER, master_port=first
            )
            for port in ports
        ]
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{MASTER}"

    async def start(self) -> None:
        for server in self.redis:
            await server.start()
        await eventually(self._in_step)
        for server in self.sentinels:
            await server.start()
        await eventually(self._known)

    async def has_moved(self) -> bool:
        _, port = await self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return int(port) != self.port

    async def stop(self) -> None:
        for server in (*self.sentinels, *self.redis):
            await server.stop()

    async def _in_step(self) -> bool:
        role, _, replicas = await self.redis[0].command("ROLE")
        link = (await self.redis[1].client.info("replication")).get("master_link_status")
        return bool(role == b"master" and replicas and link == "up")

    async def _known(self) -> bool:
        """Returns whether each sentinel knows the replica and the two other sentinels."""
        states = [
            (await s.client.sentinel_masters())[MASTER]  # type: ignore[no-untyped-call]
            for s in self.sentinels
        ]
        return {(s["num-slaves"], s["num-other-sentinels"]) for s in states} == {(1, 2)}


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    with data_directory() as directory:
        cluster = Cluster(Path(directory))
        async with AsyncExitStack() as exits:
            exits.push_async_callback(cluster.stop)
            await cluster.start()
            yield cluster


@pytest.fixture
async def deployment(cluster: Cluster, keys: Keys) -> AsyncIterator[Stack]:
    deployment = Stack(cluster.url, keys, SETTINGS)
    try:
        await deployment.start(workers=4)
        yield deployment
    finally:
        await deployment.stop()


@pytest.mark.parametrize("planned", [False, True])
async def test_failover(deployment: Stack, cluster: Cluster, *, planned: bool) -> None:
    """The master is killed, or a planned failover turns it into a replica that accepts no writes.

    Replication is asynchronous, so writes that had not reached the new master are lost. Such a
    write can be a job that was just accepted, a claim, or a result, which may be the last of its
    job. The items run again. When a worker renews its leases, it stops the calls whose claims were
    lost.
    """
    await deployment.simulate(latency_ms=200, latency_spread_ms=100)
    load = Load(deployment, lossy=True)
    async with load.steady():
        started, started_ms = datetime.now(UTC), now_ms()
        if planned:
            await cluster.sentinels[0].command("SENTINEL", "FAILOVER", MASTER, "COORDINATED")
        else:
            await cluster.redis[0].kill()
        await eventually(cluster.has_moved)
        await load.more(6)
        over_ms = now_ms()
        await load.more(6)

    for process in (deployment.api_process, *deployment.workers):
        assert process.returncode is None
    changed = await load.ask_again()
    assert all(datetime.fromisoformat(j["finished_at"]) > started - LAST_MOMENT for j in changed)
    assert not (planned and (changed or load.lost))
    calls = await ledger(deployment)
    hit = open_during(calls, started_ms - STORE_MS, over_ms)
    await verify(deployment, load, limit=LIMIT, may_repeat=hit)
