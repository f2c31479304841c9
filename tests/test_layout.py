"""Tests that a process refuses to start if Redis holds data in another layout."""

import asyncio
import sys

import pytest
from arq.connections import ArqRedis
from support.claims import accept
from support.command import run
from support.in_process import running_api

from shared.jobs.store import Store
from shared.queue.layout_version import LayoutMismatch, claim_layout, layout_check
from shared.queue.redis_keys import LAYOUT_VERSION, Keys
from shared.redis.client import connect
from shared.settings import Settings

CURRENT = str(LAYOUT_VERSION).encode()


async def start_process(url: str, keys: Keys) -> None:
    """Does what each process does at its start: connects with the check, claims the layout."""
    checked = connect(url, layout_check(keys))
    try:
        await claim_layout(checked, keys)
    finally:
        await checked.aclose()


async def test_the_first_process_writes_the_version(
    valkey_url: str, redis: ArqRedis, keys: Keys
) -> None:
    await start_process(valkey_url, keys)
    await start_process(valkey_url, keys)

    assert await redis.get(keys.layout_version) == CURRENT


async def test_another_layout_is_refused_and_not_changed(
    valkey_url: str, redis: ArqRedis, keys: Keys
) -> None:
    await redis.set(keys.layout_version, "99")

    with pytest.raises(LayoutMismatch, match=f"layout 99 .* layout {LAYOUT_VERSION}"):
        await start_process(valkey_url, keys)

    assert await redis.get(keys.layout_version) == b"99"


async def test_data_without_a_version_is_refused_and_not_changed(
    valkey_url: str, redis: ArqRedis, keys: Keys
) -> None:
    """Commit ca000f9 and earlier commits wrote such data."""
    await redis.hset(f"{keys.prefix}job:old", "total", "1")  # type: ignore[misc]

    with pytest.raises(LayoutMismatch, match="layout 1 or older"):
        await start_process(valkey_url, keys)

    assert [key async for key in redis.scan_iter(f"{keys.prefix}*")] == [
        f"{keys.prefix}job:old".encode()
    ]


async def test_keys_of_another_prefix_do_not_count(valkey_url: str, redis: ArqRedis) -> None:
    """This holds even if the prefix has characters with a meaning in a glob pattern."""
    keys = Keys("layout-[a*]:")
    await redis.set("layout-a-else:job:old", "1", ex=60)

    await start_process(valkey_url, keys)

    await redis.delete(keys.layout_version)


async def test_keys_of_a_longer_prefix_do_not_count(
    valkey_url: str, store: Store, keys: Keys
) -> None:
    """The prefix of `orchestrator up --simulate` begins with the prefix of `orchestrator up`."""
    await accept(store, "job", "a")

    await start_process(valkey_url, Keys(keys.prefix.removesuffix(":") + "-"))
    outer = keys.prefix[: len("test-") + 4]
    await start_process(valkey_url, Keys(outer))


async def test_the_script_that_writes_the_first_key_writes_the_version(
    store: Store, redis: ArqRedis, keys: Keys
) -> None:
    """So if Redis loses its data while processes run, it does not seem to have an old layout."""
    await accept(store, "job", "a")

    assert await redis.get(keys.layout_version) == CURRENT


async def test_another_layout_is_also_refused_after_a_reconnection(
    valkey_url: str, redis: ArqRedis, keys: Keys
) -> None:
    checked = connect(valkey_url, layout_check(keys))
    await claim_layout(checked, keys)
    await redis.set(keys.layout_version, "99")
    await checked.connection_pool.disconnect()

    with pytest.raises(LayoutMismatch, match="layout 99"):
        await checked.get("anything")

    await checked.aclose()


async def test_the_api_refuses_to_start(settings: Settings, redis: ArqRedis, keys: Keys) -> None:
    await redis.set(keys.layout_version, "99")

    with pytest.raises(LayoutMismatch, match="KEY_PREFIX"):
        async with running_api(settings):
            pass


async def test_a_worker_refuses_to_start_and_says_what_to_do(
    valkey_url: str, redis: ArqRedis, keys: Keys, environment: dict[str, str]
) -> None:
    await redis.set(keys.layout_version, "99")

    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker"),
        env=environment | {"REDIS_URL": valkey_url, "KEY_PREFIX": keys.prefix},
        stderr=asyncio.subprocess.PIPE,
    )
    _, output = await asyncio.wait_for(worker.communicate(), 60)

    assert worker.returncode == 1
    assert output.decode().splitlines()[-1].startswith("Redis holds data in layout 99 under")


async def test_up_refuses_to_start_and_names_both_layouts(
    valkey_url: str, redis: ArqRedis, keys: Keys, environment: dict[str, str]
) -> None:
    await redis.set(keys.layout_version, "99")

    settings = {"REDIS_URL": valkey_url, "KEY_PREFIX": keys.prefix}
    code, output = await run(environment | settings, "up", "--port", "0")

    assert code == 1
    assert f"layout 99 under the prefix '{keys.prefix}'" in output
    assert f"reads and writes layout {LAYOUT_VERSION}." in output
    assert "Traceback" not in output
