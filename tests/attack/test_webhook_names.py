"""Tests webhooks whose host names are looked up at a name server that does not answer."""

import asyncio
import os
import shutil
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from arq.connections import ArqRedis
from support.authentication import ANN, API_KEYS, BOB
from support.jobs import lines, upload
from support.raw_server import http, raw
from support.stack import Start, eventually

from shared.providers import WEBHOOK_LANE
from shared.queue.redis_keys import Keys
from worker.webhooks import MAX_DELIVERIES

SILENT = "127.9.9.9"  # a loopback address at which no other name server listens
SECRET = "whsec_" + "A" * 32
SETTINGS = {"API_KEYS": API_KEYS, "WEBHOOK_SECRET": SECRET}
# Without the limits that are tested, a lookup takes four minutes.
RESOLV_CONF = f"nameserver {SILENT}\noptions timeout:30 attempts:5\n"

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("unshare"),
    reason="only root can give a process another name server",
)


@asynccontextmanager
async def worker_with_silent_name_server(
    directory: Path, environment: dict[str, str]
) -> AsyncIterator[Process]:
    conf = directory / "resolv.conf"
    conf.write_text(RESOLV_CONF)
    script = 'mount --bind "$0" "$(realpath /etc/resolv.conf)" && exec "$@"'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_server:
        name_server.bind((SILENT, 53))
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "sh", "-c", script, str(conf), sys.executable, "-m", "worker"),
            env=environment,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def submit(client: httpx.AsyncClient, webhook: str) -> None:
    await upload(client, lines(["x"]), params={"webhook_url": webhook})


async def test_hanging_names_delay_no_other_owner_and_no_stop(
    stack: Start, redis: ArqRedis, keys: Keys, tmp_path: Path
) -> None:
    deployment = await stack(workers=0, key=ANN, **SETTINGS)
    environment = deployment.environment | {"WEBHOOK_ALLOW_PRIVATE": "true"}

    async def ann_has_taken_all_that_she_gets() -> bool:
        return bool(await redis.zcard(keys.leases(WEBHOOK_LANE)) >= MAX_DELIVERIES // 2)

    async with (
        worker_with_silent_name_server(tmp_path, environment) as worker,
        raw(http(b"")) as receiver,
    ):
        for number in range(40):
            await submit(deployment.api, f"http://name-{number}.example/")
        await eventually(ann_has_taken_all_that_she_gets)
        assert await redis.zcard(keys.leases(WEBHOOK_LANE)) == MAX_DELIVERIES // 2

        port = receiver.url.rpartition(":")[2]
        await submit(deployment.client(BOB), f"http://localhost:{port}/")

        async def bob_is_told() -> bool:
            return len(receiver.requests) == 1

        await eventually(bob_is_told)
        worker.terminate()
        async with asyncio.timeout(30):
            assert await worker.wait() == 0
