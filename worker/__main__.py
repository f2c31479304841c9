"""`python -m worker`: one worker process. `--check`: is a worker of this host alive?"""

import asyncio
import os
import secrets
import socket
import sys
from typing import Any, cast

import orjson
import uvloop
from arq.connections import ArqRedis
from arq.worker import func
from redis.exceptions import RedisError

from shared import embedded
from shared.jobs import TASK, WEBHOOK_LANE, WEBHOOK_TASK, Jobs
from shared.keys import Keys
from shared.logs import configure_logging
from shared.monitor import Monitor
from shared.providers import PROVIDERS
from shared.queue import Queue
from shared.redis import connect
from shared.settings import (
    ProviderSettings,
    Settings,
    SettingsError,
    load_provider_settings,
    load_settings,
)
from shared.store import Store
from shared.tracing import load_tracing
from worker.lane_worker import LaneWorker
from worker.providers.call import endpoint, http_client
from worker.tasks import Caller, call_provider
from worker.telemetry import Telemetry
from worker.webhooks import Webhooks, deliver_webhook, signing_key

WEBHOOKS_AT_ONCE = 10


def make_worker(
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    *,
    handle_signals: bool = True,
) -> LaneWorker:
    """Needs a running or at least a current event loop, as arq does."""

    async def open_client(ctx: dict[Any, Any]) -> None:
        ctx["caller"] = Caller(
            http_client(settings.worker_max_jobs),
            {name: endpoint(name, providers[name]) for name in PROVIDERS},
            settings.request_timeout,
            settings.max_retries,
            telemetry.tally,
            traces,
        )
        secret = settings.webhook_secret
        ctx["webhooks"] = Webhooks(
            Jobs(Store(redis, keys)),
            signing_key(secret.get_secret_value()) if secret else None,
            settings.webhook_allow_private,
            telemetry.tally,
        )
        if settings.worker_metrics_port is not None:
            ctx["stop_metrics"] = telemetry.serve(settings.worker_metrics_port)

    async def close_client(ctx: dict[Any, Any]) -> None:
        caller: Caller = ctx["caller"]
        await caller.client.aclose()
        if stop_metrics := ctx.get("stop_metrics"):
            await asyncio.to_thread(stop_metrics)
        if traces:
            await asyncio.to_thread(traces.close)

    keys = Keys(settings.key_prefix)
    telemetry = Telemetry()
    traces = load_tracing(settings, "orchestrator-worker")
    return LaneWorker(
        monitor=Monitor(redis, keys),
        telemetry=telemetry,
        queue=Queue(
            redis,
            keys,
            lease_s=settings.lease_seconds,
            interactive_weight=settings.interactive_weight,
        ),
        keys=keys,
        worker_id=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}",
        limits={
            name: provider.max_concurrent_requests or settings.max_concurrent_requests
            for name, provider in providers.items()
        }
        | {WEBHOOK_LANE: WEBHOOKS_AT_ONCE},
        lease_s=settings.lease_seconds,
        functions=[
            func(cast("Any", call_provider), name=TASK),
            func(cast("Any", deliver_webhook), name=WEBHOOK_TASK),
        ],
        redis_pool=redis,
        job_deserializer=orjson.loads,
        on_startup=open_client,
        on_shutdown=close_client,
        handle_signals=handle_signals,
        max_jobs=settings.worker_max_jobs,
        # Never 0: without any wait arq would go on to claim while it stops.
        job_completion_wait=max(settings.shutdown_grace_seconds, 0.01),
    )


async def is_alive(queue: Queue) -> bool:
    host = f"{socket.gethostname()}:"
    try:
        return any(worker_id.startswith(host) for worker_id in await queue.workers())
    except (RedisError, OSError):
        return False


def main() -> None:
    try:
        _run()
    except SettingsError as error:
        sys.exit(f"wrong settings\n{error}")


def _run() -> None:
    settings, providers = load_settings(), load_provider_settings()
    configure_logging(settings.log_level)
    server = None if settings.redis_url else embedded.use(settings.data_dir)
    redis = connect(server.url if server else cast("str", settings.redis_url))
    if "--check" in sys.argv[1:]:
        queue = Queue(redis, Keys(settings.key_prefix), lease_s=settings.lease_seconds)
        sys.exit(0 if asyncio.run(is_alive(queue)) else 1)
    asyncio.set_event_loop(uvloop.new_event_loop())
    make_worker(settings, providers, redis).run()


if __name__ == "__main__":
    main()
