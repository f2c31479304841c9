"""Redis carries the version of its layout; a process that finds another one refuses to start."""

import asyncio
import sys

import pytest
from arq.connections import ArqRedis
from support.claims import accept
from support.in_process import running_api

from shared.jobs.store import Store
from shared.queue.keys import LAYOUT_VERSION, Keys
from shared.queue.layout_version import LayoutMismatch, claim_layout, layout_check
from shared.redis.client import connect
from shared.settings import Settings

CURRENT = str(LAYOUT_VERSION).encode()


async def commands(url: str, keys: Keys) -> None:
    """What each process does: it connects with the check and claims the layout."""
    checked = connect(url, layout_check(keys))
    try:
        await claim_layout(checked, keys)
    finally:
        await checked.aclose()


async def test_the_first_process_writes_the_version(
    valkey_url: str, redis: ArqRedis, keys: Keys
) -> None:
    await commands(valkey_url, keys)
    await commands(valkey_url, keys)

    assert await redis.get(keys.layout_version) == CURRENT


async def test_another_layout_is_refused_and_left_alone(
    valkey_url: str, redis: ArqRedis, keys: Keys
) -> None:
    await redis.set(keys.layout_version, "99")

    with pytest.raises(LayoutMismatch, match=f"layout 99 .* layout {LAYOUT_VERSION}"):
        await commands(valkey_url, keys)

    assert await redis.get(keys.layout_version) == b"99"


async def test_data_without_a_version_is_refused_and_left_alone(
    valkey_url: str, redis: ArqRedis, keys: Keys
) -> None:
    """As commit ca000f9 and earlier ones left it."""
    await redis.hset(f"{keys.prefix}job:old", "total", "1")  # type: ignore[misc]

    with pytest.raises(LayoutMismatch, match="layout 1 or older"):
        await commands(valkey_url, keys)

    assert [key async for key in redis.scan_iter(f"{keys.prefix}*")] == [
        f"{keys.prefix}job:old".encode()
    ]


async def test_keys_of_another_prefix_do_not_count(valkey_url: str, redis: ArqRedis) -> None:
    """Also where a prefix has characters that mean something in a pattern."""
    keys = Keys("layout-[a*]:")
    await redis.set("layout-a-else:job:old", "1", ex=60)

    await commands(valkey_url, keys)

    await redis.delete(keys.layout_version)


async def test_keys_of_a_longer_prefix_do_not_count(
    valkey_url: str, store: Store, keys: Keys
) -> None:
    """`orchestrator up --simulate` puts its keys behind the prefix of `orchestrator up`."""
    await accept(store, "job", "a")

    await commands(valkey_url, Keys(keys.prefix.removesuffix(":") + "-"))
    outer = keys.prefix[: len("test-") + 4]
    await commands(valkey_url, Keys(outer))


async def test_what_writes_the_first_key_writes_the_version(
    store: Store, redis: ArqRedis, keys: Keys
) -> None:
    """A Redis that lost its data while processes ran does not look like an old one."""
    await accept(store, "job", "a")

    assert await redis.get(keys.layout_version) == CURRENT


async def test_a_connection_to_a_redis_with_another_layout_is_refused_later_too(
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
