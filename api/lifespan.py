"""Starts and stops everything that the application needs while it runs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import structlog
from arq.connections import ArqRedis
from prometheus_client import CollectorRegistry

from api.dependencies.services import Services
from api.jobs.job_responses import JobResponses
from api.jobs.job_starter import JobStarter
from api.jobs.job_streams import JobStreams
from api.monitoring.metrics import Metrics
from api.monitoring.overview_feed import OverviewFeed
from api.openai.result_sums import Sums, running_sums
from api.openai.services import openai_services
from api.periodic_tasks import run_periodic_tasks
from api.server.shutdown import on_shutdown_signal
from api.streams.job_updates import JobUpdates
from api.streams.result_stream import PAGES_SHARE, ResultStream
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.jobs.submission import JobPolicy
from shared.memory_budget import MemoryBudget
from shared.monitoring.monitor import Monitor
from shared.monitoring.reports import ReportWriter
from shared.monitoring.tracing import Tracer
from shared.providers import Catalogue
from shared.queue.claims import Queue
from shared.queue.layout_version import LayoutMismatch, claim_layout, layout_check
from shared.queue.redis_keys import Keys
from shared.redis import embedded
from shared.redis.client import RedisUnavailable, open_redis
from shared.redis.memory import RedisMemory
from shared.settings import ProviderSettings, Settings

log = structlog.get_logger()


@asynccontextmanager
async def running_services(
    settings: Settings,
    catalogue: Catalogue,
    providers: Mapping[str, ProviderSettings],
    tracer: Tracer,
    registry: CollectorRegistry,
) -> AsyncIterator[Services]:
    """Connects to Redis, runs the background tasks, and yields the services.

    When the context ends, stops the tasks, closes the tracer and closes the connection. If Redis is
    unavailable, the services start nevertheless. Raises LayoutMismatch if the data in Redis has
    another layout, and EmbeddedServerError if the embedded Valkey does not start.
    """
    keys = Keys(settings.key_prefix)
    async with _redis(settings, keys) as redis, running_sums() as sums:
        memory = RedisMemory(redis)
        model_limits = {row.name: row.models for row in catalogue.rows.values() if row.models}
        store = Store(redis, keys, memory, model_limits)
        updates = JobUpdates(redis, keys, store)
        services = _services(
            redis,
            keys,
            memory,
            settings,
            catalogue,
            store=store,
            updates=updates,
            sums=sums,
            providers=providers,
            tracer=tracer,
            registry=registry,
        )

        def close_streams() -> None:
            updates.close()
            services.overview_feed.close()

        periodic_tasks = partial(run_periodic_tasks, services.queue, ReportWriter(redis, keys))
        async with _background(updates.run, periodic_tasks, memory.watch):
            _log_start(settings, catalogue)
            with on_shutdown_signal(close_streams):
                yield services
        await asyncio.to_thread(tracer.close)


def _services(
    redis: ArqRedis,
    keys: Keys,
    memory: RedisMemory,
    settings: Settings,
    catalogue: Catalogue,
    *,
    store: Store,
    updates: JobUpdates,
    sums: Sums,
    providers: Mapping[str, ProviderSettings],
    tracer: Tracer,
    registry: CollectorRegistry,
) -> Services:
    jobs = Jobs(store, JobPolicy.from_settings(settings), tracer)
    starter = JobStarter(
        jobs,
        updates,
        grace_s=settings.disconnect_grace_seconds,
        cancels_abandoned=settings.cancel_on_disconnect,
    )
    pages_memory = MemoryBudget(settings.api_memory_bytes // PAGES_SHARE)
    result_stream = ResultStream(store, updates, pages_memory)
    overview_feed = OverviewFeed(Monitor(redis, keys), jobs)
    return Services(
        settings=settings,
        catalogue=catalogue,
        queue=Queue(redis, keys, lease_s=settings.lease_seconds),
        jobs=jobs,
        job_starter=starter,
        job_streams=JobStreams(store, jobs, starter, result_stream),
        job_responses=JobResponses(result_stream),
        overview_feed=overview_feed,
        metrics=Metrics(overview_feed, registry),
        openai=openai_services(
            redis,
            keys,
            memory,
            settings,
            catalogue,
            store=store,
            jobs=jobs,
            starter=starter,
            stream=result_stream,
            updates=updates,
            sums=sums,
            providers=providers,
        ),
    )


@asynccontextmanager
async def _redis(settings: Settings, keys: Keys) -> AsyncIterator[ArqRedis]:
    connection = await asyncio.to_thread(
        open_redis, settings.redis_url, settings.data_dir, layout_check(keys)
    )
    try:
        await _refuse_other_layouts(connection.client, keys)
        yield connection.client
    finally:
        await connection.close()


@asynccontextmanager
async def _background(*functions: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Runs the functions at the same time until the context ends, then cancels them."""

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for function in functions:
                group.create_task(function())

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _refuse_other_layouts(redis: ArqRedis, keys: Keys) -> None:
    """Raises LayoutMismatch if the data in Redis has another layout.

    Raises nothing if Redis is unavailable, because the client checks each new connection, too.
    """
    try:
        await claim_layout(redis, keys)
    except LayoutMismatch:
        raise
    except RedisUnavailable:
        pass  # the client has logged that Redis is unavailable


def _redis_kind(settings: Settings) -> str:
    # `orchestrator up` starts the embedded Valkey, and gives its URL to the processes.
    if settings.redis_url in {None, embedded.server_url(settings.data_dir)}:
        return "embedded"
    return "external"


def _log_start(settings: Settings, catalogue: Catalogue) -> None:
    keys = len(settings.api_keys)
    log.info(
        "api_started",
        redis=_redis_kind(settings),
        authentication=f"{keys} API keys" if keys else "none: API_KEYS is not set",
        providers=sorted(catalogue.configured),
    )
