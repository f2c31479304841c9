"""Tests that the embedded server runs exactly as long as any process uses it."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from redis.exceptions import RedisError
from support.stack import eventually

from shared.redis import embedded
from shared.redis.client import connect

USER = """
import sys
from pathlib import Path
from shared.redis import embedded
server = embedded.use(Path(sys.argv[1]))
print(server.url, flush=True)
sys.stdin.read()
"""


class User:
    """A process that uses the server until its standard input is closed."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    @classmethod
    async def start(cls, directory: Path) -> "User":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", USER, str(directory)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        return cls(process, line.decode().strip())

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        await self.process.wait()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="valkey-", ignore_cleanup_errors=True) as path:
        yield Path(path)


async def server_pid(redis: ArqRedis) -> int:
    pid: int = (await redis.info("server"))["process_id"]
    return pid


async def parent_of(pid: int) -> int:
    ps = await asyncio.create_subprocess_exec(
        *("ps", "-o", "ppid=", "-p", str(pid)), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await ps.communicate()
    return int(output)


async def wait_until_stopped(url: str) -> None:
    async def is_stopped() -> bool:
        return not os.path.exists(url.removeprefix("unix://"))  # noqa: ASYNC240, PTH110

    await eventually(is_stopped)


async def test_the_server_stops_when_its_last_user_is_killed(directory: Path) -> None:
    first, second = await asyncio.gather(User.start(directory), User.start(directory))
    redis = connect(first.url)

    await first.end()

    assert await redis.ping()
    await redis.aclose()
    await second.end()
    await wait_until_stopped(second.url)


async def test_users_share_one_server(directory: Path) -> None:
    before = embedded.running_url(directory)
    users = await asyncio.gather(*(User.start(directory) for _ in range(4)))
    redis = connect(users[0].url)

    assert (before, embedded.running_url(directory)) == (None, users[0].url)
    assert len({user.url for user in users}) == 1
    assert (await redis.config_get("appendonly"))["appendonly"] == "yes"
    await redis.aclose()
    for user in users:
        await user.end()
    await wait_until_stopped(users[0].url)


async def test_the_data_survives_a_stop(directory: Path) -> None:
    user = await User.start(directory)
    redis = connect(user.url)
    await redis.set("kept", "value")
    await redis.aclose()
    await user.end()
    await wait_until_stopped(user.url)

    user = await User.start(directory)
    redis = connect(user.url)

    assert await redis.get("kept") == b"value"
    await redis.aclose()
    await user.end()


async def test_a_crashed_server_is_restarted_with_its_data(directory: Path) -> None:
    user = await User.start(directory)
    redis = connect(user.url)
    await redis.set("kept", "value")
    os.kill(await server_pid(redis), signal.SIGKILL)

    async def is_back() -> bool:
        try:
            return bool(await redis.get("kept") == b"value")
        except RedisError:
            return False

    await eventually(is_back)
    await redis.aclose()
    await user.end()
    await wait_until_stopped(user.url)


async def test_a_new_keeper_replaces_the_server_of_a_killed_keeper(directory: Path) -> None:
    user = await User.start(directory)
    redis = connect(user.url)
    pid = await server_pid(redis)
    keeper = await parent_of(pid)
    os.kill(keeper, signal.SIGKILL)
    await redis.set("kept", "value")

    second = await User.start(directory)

    async def is_new() -> bool:
        try:
            return await server_pid(redis) != pid and await redis.get("kept") == b"value"
        except RedisError:
            return False

    await eventually(is_new)
    await redis.aclose()
    await user.end()
    await second.end()
    await wait_until_stopped(user.url)


def test_a_socket_directory_of_another_user_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    other_user = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other_user)

    with pytest.raises(embedded.EmbeddedServerError, match="belongs to user"):
        embedded.use(directory / "data")
