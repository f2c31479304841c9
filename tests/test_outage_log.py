"""An outage of Redis is a line at its start, one every 30 s, and one at its end."""

import json
from pathlib import Path
from typing import IO, Any

import pytest
from structlog.testing import capture_logs
from support.redis_server import Server
from support.stack import Stack, eventually, free_port

from shared.queue.redis_keys import Keys
from shared.redis.outage_log import LOGGED_ELSEWHERE, OutageLog, redis_address


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_is_logged_every_30_s_and_at_its_end() -> None:
    clock = Clock()
    outages = OutageLog("10.0.0.5:6379", clock)
    with capture_logs() as lines:
        for _ in range(700):  # 70 s, ten failed commands a second
            outages.failed("Connection refused")
            clock.now += 0.1
        clock.now += 3
        outages.succeeded()
        outages.succeeded()

    warning = {"log_level": "warning", "redis": "10.0.0.5:6379"}
    unavailable = warning | {
        "event": "redis_unavailable",
        "reason": "Connection refused",
        "consequence": "accepted jobs are safe; retrying",
    }
    assert lines == [
        unavailable,
        unavailable | {"lasts_s": 30},
        unavailable | {"lasts_s": 60},
        warning | {"event": "redis_available", "after_s": 69.9},
    ]


def test_a_redis_that_answers_some_commands_does_not_fill_the_log() -> None:
    """A full Redis refuses writes and answers reads."""
    clock = Clock()
    outages = OutageLog("r:6379", clock)
    with capture_logs() as lines:
        for second in range(60):
            outages.failed("OutOfMemoryError")
            clock.now += 0.5
            outages.succeeded()
            clock.now += 0.5 if second % 10 else 5

    assert [line["event"] for line in lines].count("redis_unavailable") <= 5
    assert len(lines) <= 10


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://:secret@10.0.0.5:6380/1", "10.0.0.5:6380"),
        ("rediss://ada:secret@cache.example", "cache.example:6379"),
        ("unix:///run/valkey.sock?db=1", "/run/valkey.sock"),
        ("redis+sentinel://:secret@a:1,b:2/mymaster/0", "mymaster/0 at the sentinels a:1,b:2"),
    ],
)
def test_the_address_has_no_password(url: str, address: str) -> None:
    assert redis_address(url) == address


async def test_the_api_and_the_worker_log_one_line_each_and_one_when_redis_is_back(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys, output: IO[bytes]
) -> None:
    directory = tmp_path_factory.mktemp("r")
    port = free_port()
    server = Server(Path(directory), port=port)
    await server.start()
    stack = Stack(f"redis://127.0.0.1:{port}", keys, {"LOG_LEVEL": "WARNING"}, output=output)
    try:
        await stack.start(workers=1)
        stack.environment[LOGGED_ELSEWHERE] = "1"  # as `orchestrator up` sets it for its workers
        await stack.add_worker()
        await server.kill()

        async def events(name: str) -> list[dict[str, Any]]:
            output.seek(0)
            lines = [json.loads(line) for line in output.read().splitlines()]
            return [line for line in lines if line["event"] == name]

        async def both(name: str) -> bool:
            return len(await events(name)) == 2

        await eventually(lambda: both("redis_unavailable"))
        # Each process fails many more commands before the server starts again.
        for _ in range(20):
            assert (await stack.api.get("/overview")).status_code == 503
        await server.start()
        await eventually(lambda: both("redis_available"))

        assert {line["redis"] for line in await events("redis_unavailable")} == {
            f"127.0.0.1:{port}"
        }
        output.seek(0)
        assert len(output.read().splitlines()) == 4
    finally:
        await stack.stop()
        await server.stop()
