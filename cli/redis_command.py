"""Runs the commands that connect to the Redis of an installation, not to its API."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from redis.asyncio import Redis

from cli.command_runner import fail
from cli.console import err
from shared.queue.layout_version import LayoutMismatch, layout_check
from shared.queue.redis_keys import Keys
from shared.redis import embedded
from shared.redis.client import RedisUnavailable, connect
from shared.redis.outage_log import redis_address
from shared.settings import Settings, SettingsError, load_settings

CODES = {
    0: "success",
    1: "Redis cannot be reached, or the settings are wrong",
    2: "wrong arguments",
}

T = TypeVar("T")


def run_with_redis(work: Callable[[Redis, Keys], Coroutine[Any, Any, T]]) -> T:
    """Runs `work` with a client of the installation's Redis, and returns the result.

    Prints a message and raises typer.Exit if the settings are wrong, if Redis is unavailable, or if
    its data has another layout version.
    """
    try:
        settings = load_settings()
        url = _redis_url(settings)
    except SettingsError as error:
        fail(f"wrong settings\n{error}")
    except embedded.EmbeddedServerError as error:
        fail(str(error))
    keys = Keys(settings.key_prefix)

    async def main() -> T:
        redis = connect(url, layout_check(keys), log_outages=False)
        try:
            return await work(redis, keys)
        finally:
            await redis.aclose()

    try:
        return asyncio.run(main())
    except LayoutMismatch as error:
        fail(str(error))
    except RedisUnavailable as error:
        reason = str(error).rstrip(".")
        fail(f"Redis at {redis_address(url)} is unavailable: {reason}. Check REDIS_URL.")


def _redis_url(settings: Settings) -> str:
    url = settings.redis_url or embedded.running_url(settings.data_dir)
    if url is None:
        fail(
            f"no Redis was found: REDIS_URL is not set, and no `orchestrator up` runs with"
            f" DATA_DIR={settings.data_dir}. Run `orchestrator up`, or set REDIS_URL to the Redis"
            " of the workers."
        )
    return url


def say_empty(keys: Keys) -> None:
    """Prints that there is nothing under the key prefix, and which other prefix may be meant."""
    err.print(
        f"There is no worker and no work under KEY_PREFIX={keys.prefix}. `orchestrator up"
        f" --simulate` uses KEY_PREFIX={keys.prefix}simulated:",
        markup=False,
    )
