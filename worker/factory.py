"""Builds a worker process from the settings."""

import asyncio
import os
import secrets
import socket
from typing import Any, cast

from arq.connections import ArqRedis
from arq.worker import func

from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.jobs.submission import JobPolicy
from shared.monitoring.reports import ReportWriter
from shared.monitoring.tracing import load_tracer
from shared.providers import PROVIDERS, WEBHOOK_LANE
from shared.queue.claims import Queue
from shared.queue.codec import CALL_PROVIDER, DELIVER_WEBHOOK
from shared.queue.keys import Keys
from shared.settings import (
    ProviderSettings,
    Settings,
)
from worker.lane_worker import LaneWorker
from worker.metrics import WorkerMetrics
from worker.providers.client import http_client
from worker.providers.endpoint import endpoint
from worker.tasks import ProviderContext, call_provider
from worker.webhooks import MAX_DELIVERIES, WebhookContext, deliver_webhook, signing_key


def make_worker(
    settings: Settings,
    providers: dict[str, ProviderSettings],
    redis: ArqRedis,
    *,
    handle_signals: bool = True,
) -> LaneWorker:
    """Needs a running or at least a current event loop, as arq does."""

    async def open_client(ctx: dict[Any, Any]) -> None:
        ctx["provider_context"] = ProviderContext(
            http_client(settings.worker_max_jobs),
            {name: endpoint(PROVIDERS[name], own) for name, own in providers.items()},
            settings.request_timeout,
            settings.max_retries,
            telemetry.calls,
            tracer,
        )
        secret = settings.webhook_secret
        ctx["webhook_context"] = WebhookContext(
            Jobs(Store(redis, keys), JobPolicy.from_settings(settings)),
            signing_key(secret.get_secret_value()) if secret else None,
            settings.webhook_allow_private,
            telemetry.calls,
        )
        if settings.worker_metrics_port is not None:
            ctx["stop_metrics"] = telemetry.serve(settings.worker_metrics_port)

    async def close_client(ctx: dict[Any, Any]) -> None:
        context: ProviderContext = ctx["provider_context"]
        await context.client.aclose()
        if stop_metrics := ctx.get("stop_metrics"):
            await asyncio.to_thread(stop_metrics)
        await asyncio.to_thread(tracer.close)

    keys = Keys(settings.key_prefix)
    telemetry = WorkerMetrics()
    tracer = load_tracer(settings, "orchestrator-worker")
    return LaneWorker(
        reports=ReportWriter(redis, keys),
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
        | {WEBHOOK_LANE: MAX_DELIVERIES},
        lease_s=settings.lease_seconds,
        functions=[
            func(cast("Any", call_provider), name=CALL_PROVIDER),
            func(cast("Any", deliver_webhook), name=DELIVER_WEBHOOK),
        ],
        redis_pool=redis,
        on_startup=open_client,
        on_shutdown=close_client,
        handle_signals=handle_signals,
        max_jobs=settings.worker_max_jobs,
        # Never 0: without any wait arq would go on to claim while it stops.
        job_completion_wait=max(settings.shutdown_grace_seconds, 0.01),
    )
