"""Builds a worker from the settings."""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Coroutine
from typing import Any, cast

from arq.connections import ArqRedis
from arq.worker import func

from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.jobs.submission import JobPolicy
from shared.memory_budget import MemoryBudget
from shared.monitoring.reports import ReportWriter
from shared.monitoring.tracing import Tracer, load_tracer
from shared.queue.claims import Queue
from shared.queue.codec import CALL_PROVIDER, DELIVER_WEBHOOK
from shared.queue.deltas import Deltas
from shared.queue.redis_keys import Keys
from shared.settings import Settings
from shared.settings.providers import Providers
from worker.lane_worker import LaneWorker
from worker.metrics import WorkerMetrics
from worker.providers.connections import http_client
from worker.providers.endpoint import endpoints
from worker.served_lanes import callable_lanes, limits_of
from worker.tasks import ProviderContext, call_provider
from worker.webhooks import WebhookContext, deliver_webhook, signing_key

_Hook = Callable[[dict[Any, Any]], Coroutine[Any, Any, None]]


def make_worker(
    settings: Settings,
    providers: Providers,
    redis: ArqRedis,
    *,
    handle_signals: bool = True,
) -> LaneWorker:
    """Returns a worker that is ready to run. The worker closes `redis` when it stops.

    The thread must have a current event loop, because arq's constructor reads it. The loop need not
    be running. Raises SettingsError if the settings ask for tracing and the extra `otel` is
    missing.
    """
    keys = Keys(settings.key_prefix)
    metrics = WorkerMetrics()
    memory = MemoryBudget(settings.worker_memory_bytes)
    start, stop = _hooks(settings, providers, redis, keys, metrics, memory)
    return LaneWorker(
        queue=Queue(
            redis,
            keys,
            lease_s=settings.lease_seconds,
            interactive_weight=settings.interactive_weight,
            outage_wait_s=settings.outage_wait_seconds,
        ),
        reports=ReportWriter(redis, keys),
        metrics=metrics,
        memory=memory,
        keys=keys,
        worker_id=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}",
        limits=limits_of(settings, providers),
        configured=callable_lanes(providers),
        lease_s=settings.lease_seconds,
        functions=[
            func(cast("Any", call_provider), name=CALL_PROVIDER),
            func(cast("Any", deliver_webhook), name=DELIVER_WEBHOOK),
        ],
        redis_pool=redis,
        on_startup=start,
        on_shutdown=stop,
        handle_signals=handle_signals,
        max_jobs=settings.worker_max_jobs,
        # Never 0, because with 0 arq would continue to claim items while it stops.
        job_completion_wait=max(settings.shutdown_grace_seconds, 0.01),
    )


def _hooks(
    settings: Settings,
    providers: Providers,
    redis: ArqRedis,
    keys: Keys,
    metrics: WorkerMetrics,
    memory: MemoryBudget,
) -> tuple[_Hook, _Hook]:
    """Returns the functions that arq calls when the worker starts and when it stops.

    The first function makes the contexts of the tasks, and serves the metrics if
    WORKER_METRICS_PORT is set. It raises MetricsPortError.
    """
    tracer = load_tracer(settings, "orchestrator-worker")

    async def start(ctx: dict[Any, Any]) -> None:
        ctx["provider_context"] = _provider_context(
            settings, providers, Deltas(redis, keys), metrics, tracer, memory
        )
        ctx["webhook_context"] = _webhook_context(settings, redis, keys, metrics)
        if settings.worker_metrics_port is not None:
            ctx["stop_metrics"] = metrics.serve(settings.worker_metrics_port)

    async def stop(ctx: dict[Any, Any]) -> None:
        context: ProviderContext = ctx["provider_context"]
        await context.client.aclose()
        if stop_metrics := ctx.get("stop_metrics"):
            await asyncio.to_thread(stop_metrics)
        await asyncio.to_thread(tracer.close)

    return start, stop


def _provider_context(
    settings: Settings,
    providers: Providers,
    deltas: Deltas,
    metrics: WorkerMetrics,
    tracer: Tracer,
    memory: MemoryBudget,
) -> ProviderContext:
    missing = providers.missing()
    return ProviderContext(
        client=http_client(settings.worker_max_jobs),
        endpoints={
            account: endpoint
            for name, row in providers.catalogue.rows.items()
            if name not in missing
            for account, endpoint in endpoints(
                row,
                providers.settings[name],
                timeout_s=settings.request_timeout,
                max_answer_bytes=settings.max_answer_bytes,
                memory=memory,
            ).items()
        },
        missing=missing,
        max_retries=settings.max_retries,
        calls=metrics.calls,
        deltas=deltas,
        tracer=tracer,
    )


def _webhook_context(
    settings: Settings, redis: ArqRedis, keys: Keys, metrics: WorkerMetrics
) -> WebhookContext:
    secret = settings.webhook_secret
    return WebhookContext(
        jobs=Jobs(Store(redis, keys), JobPolicy.from_settings(settings)),
        signing_key=signing_key(secret.get_secret_value()) if secret else None,
        allow_private=settings.webhook_allow_private,
        calls=metrics.calls,
    )
