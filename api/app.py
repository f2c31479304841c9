"""The application: puts the parts together and starts and stops them."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from redis.exceptions import RedisError

from api.batches import Batches
from api.dashboard import add_page
from api.dependencies import Services
from api.errors import add_exception_handlers
from api.examples import description
from api.job_events import JobEvents
from api.metrics import Metrics
from api.middleware.authentication import AuthenticationMiddleware
from api.middleware.concurrency_limit import ConcurrencyLimitMiddleware
from api.middleware.request_metrics import RequestMetricsMiddleware
from api.overview_feed import OverviewFeed
from api.result_stream import ResultStream
from api.routes.batches import router
from api.routes.jobs import router as job_router
from api.routes.overview import router as overview_router
from api.streaming import DeferredStreamMiddleware
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.models import BatchLLMRequest, JobItem, LLMRequest
from shared.monitoring.metrics import new_registry
from shared.monitoring.monitor import Monitor
from shared.monitoring.reports import ReportWriter
from shared.monitoring.tracing import load_tracer
from shared.queue.claims import Queue
from shared.queue.keys import Keys
from shared.redis.client import open_redis
from shared.settings import Settings
from shared.version import VERSION

SAMPLE_S = 5.0

log = structlog.get_logger()


def create_app(settings: Settings) -> FastAPI:
    registry = new_registry()
    tracer = load_tracer(settings, "orchestrator-api")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connection = await asyncio.to_thread(open_redis, settings.redis_url, settings.data_dir)
        redis = connection.client
        keys = Keys(settings.key_prefix)
        queue = Queue(redis, keys, lease_s=settings.lease_seconds)
        store = Store(redis, keys)
        jobs = Jobs(store, tracer)
        events = JobEvents(redis, keys, queue, store)
        live = OverviewFeed(Monitor(redis, keys), jobs)
        app.state.services = Services(
            settings,
            queue,
            store,
            jobs,
            Batches(jobs, events, cancel_on_disconnect=settings.cancel_on_disconnect),
            ResultStream(store, events),
            live,
            Metrics(live, registry),
        )
        task = asyncio.create_task(_run(events, ReportWriter(redis, keys)))
        log.info(
            "api_started",
            redis="external" if settings.redis_url else "embedded",
            access=f"{len(settings.api_keys)} keys" if settings.api_keys else "open to everybody",
        )

        def close() -> None:
            events.close()
            live.close()

        with _on_shutdown_signal(close):
            yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(tracer.close)
        await connection.close()

    app = FastAPI(
        title="LLM batch orchestrator",
        version=VERSION,
        description=description(),
        lifespan=lifespan,
        telemetry={
            "tracing": tracer.provider is not None,
            "tracer_provider": tracer.provider,
            "operation_spans": False,
            "metrics": False,
            "logs": False,  # they have what a client sent
        },
    )
    app.add_middleware(DeferredStreamMiddleware)
    app.add_middleware(ConcurrencyLimitMiddleware, limit=settings.max_open_requests)
    app.add_middleware(AuthenticationMiddleware, keys=settings.api_keys)
    app.add_middleware(RequestMetricsMiddleware, registry=registry)
    app.include_router(router)
    app.include_router(job_router)
    app.include_router(overview_router)
    if settings.dashboard:
        add_page(app)
    add_exception_handlers(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


async def _run(events: JobEvents, reports: ReportWriter) -> None:
    """Until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(events.run())
        group.create_task(_sample(reports))


async def _sample(reports: ReportWriter) -> None:
    """The history goes on where no worker is there to report."""
    while True:
        with suppress(RedisError, OSError):
            await reports.write_levels()
        await asyncio.sleep(SAMPLE_S)


@contextmanager
def _on_shutdown_signal(notify: Callable[[], None]) -> Iterator[None]:
    """uvicorn waits for open requests before it ends the lifespan; those that wait for a job must
    hear of it earlier."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: Any) -> None:  # noqa: ANN401 — as signal.signal has it
        loop.call_soon_threadsafe(notify)
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """With what routes read or write themselves."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        template = "#/components/schemas/{model}"
        schemas = schema["components"]["schemas"]
        for model in (BatchLLMRequest, LLMRequest, JobItem):
            described = model.model_json_schema(ref_template=template)
            schemas |= described.pop("$defs", {}) | {model.__name__: described}
        app.openapi_schema = schema
    return app.openapi_schema
