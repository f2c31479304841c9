"""Runs a worker process: `python -m worker`.

`python -m worker --check` exits with 0 if a worker of this host is alive, otherwise with 1.
"""

import asyncio
import os
import socket
import sys

import uvloop

from shared.logs import configure_logging
from shared.process_memory import return_large_blocks, skip_startup_objects
from shared.queue.claims import Queue
from shared.queue.layout_version import LayoutMismatch, layout_check
from shared.queue.redis_keys import Keys
from shared.redis.client import RedisUnavailable, open_redis
from shared.redis.embedded import EmbeddedServerError
from shared.redis.outage_log import LOGGED_ELSEWHERE
from shared.settings import SettingsError, load_settings
from shared.settings.providers import load_providers
from shared.settings.unknown_settings import log_unknown_settings
from worker.factory import make_worker
from worker.metrics import MetricsPortError


async def has_live_worker(queue: Queue) -> bool:
    """Returns whether a worker of this host is alive; False if Redis is unavailable."""
    host = f"{socket.gethostname()}:"
    try:
        return any(worker_id.startswith(host) for worker_id in await queue.workers())
    except RedisUnavailable:
        return False


def main() -> None:
    return_large_blocks()
    try:
        _run()
    except SettingsError as error:
        sys.exit(f"wrong settings\n{error}")
    except (LayoutMismatch, EmbeddedServerError, MetricsPortError) as error:
        sys.exit(str(error))


def _run() -> None:
    settings = load_settings()
    providers = load_providers(settings)
    configure_logging(settings.log_level)
    keys = Keys(settings.key_prefix)
    connection = open_redis(
        settings.redis_url,
        settings.data_dir,
        layout_check(keys),
        log_outages=LOGGED_ELSEWHERE not in os.environ,
    )
    redis = connection.client
    if "--check" in sys.argv[1:]:
        queue = Queue(redis, keys, lease_s=settings.lease_seconds)
        sys.exit(0 if asyncio.run(has_live_worker(queue)) else 1)
    log_unknown_settings(providers.catalogue.rows)
    asyncio.set_event_loop(uvloop.new_event_loop())
    worker = make_worker(settings, providers, redis)
    skip_startup_objects()
    worker.run()


if __name__ == "__main__":
    main()
