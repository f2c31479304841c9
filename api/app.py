"""Assembles the application: middleware, routes, error responses and the OpenAPI document."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api.errors.error_responses import add_exception_handlers
from api.lifespan import running_services
from api.middleware.authentication import AuthenticationMiddleware
from api.middleware.concurrency_limit import ConcurrencyLimitMiddleware
from api.middleware.deferred_stream import DeferredStreamMiddleware
from api.middleware.head import HeadMiddleware
from api.middleware.path_prefix import PathPrefixMiddleware
from api.middleware.request_metrics import RequestMetricsMiddleware
from api.middleware.startup_errors import StartupErrorsMiddleware
from api.openapi.document import openapi_document
from api.openapi.examples import description
from api.pages.dashboard import add_dashboard
from api.pages.docs_page import add_docs_page
from api.routes import (
    batches,
    health,
    jobs,
    openai_batches,
    openai_calls,
    openai_files,
    openai_models,
    overview,
)
from api.streams.result_stream import PAGES_SHARE
from api.trailing_slash import accept_trailing_slashes
from shared.monitoring.metrics import new_registry
from shared.monitoring.tracing import load_tracer
from shared.providers import Catalogue
from shared.queue.layout_version import LayoutMismatch
from shared.redis.embedded import EmbeddedServerError
from shared.settings import ProviderSettings, Settings
from shared.version import VERSION

RESOURCES = (
    batches,
    jobs,
    openai_calls,
    openai_models,
    openai_files,
    openai_batches,
    overview,
    health,
)


def create_app(
    settings: Settings,
    catalogue: Catalogue,
    providers: Mapping[str, ProviderSettings] = MappingProxyType({}),
) -> FastAPI:
    """Returns the application. `GET /v1/models` asks `providers` for the names of their models.

    Raises SettingsError if OTEL_EXPORTER_OTLP_ENDPOINT is set without the extra `otel`.
    """
    registry = new_registry()
    tracer = load_tracer(settings, "orchestrator-api")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running_services(settings, catalogue, providers, tracer, registry) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="LLM batch orchestrator",
        version=VERSION,
        description=description(),
        lifespan=lifespan,
        docs_url=None,  # the framework's pages load scripts from another host
        redoc_url=None,
        redirect_slashes=False,
        telemetry={
            "tracing": tracer.provider is not None,
            "tracer_provider": tracer.provider,
            "operation_spans": False,
            "metrics": False,
            "logs": False,  # logs contain what a client sent
        },
    )
    _add_middleware(app, settings, registry)
    for resource in RESOURCES:
        app.include_router(resource.router)
    add_docs_page(app)
    if settings.dashboard:
        add_dashboard(app)
    accept_trailing_slashes(app)
    add_exception_handlers(app)
    app.openapi = lambda: openapi_document(app, list(catalogue.rows))  # type: ignore[method-assign]
    return app


def _add_middleware(app: FastAPI, settings: Settings, registry: CollectorRegistry) -> None:
    """Adds the middleware. A request passes through the middleware in the reverse order."""
    app.add_middleware(DeferredStreamMiddleware)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(
        ConcurrencyLimitMiddleware,
        limit=settings.max_open_requests,
        owners=[key.owner for key in settings.api_keys],
        memory_bytes=settings.api_memory_bytes - settings.api_memory_bytes // PAGES_SHARE,
    )
    app.add_middleware(AuthenticationMiddleware, settings=settings)
    app.add_middleware(RequestMetricsMiddleware, registry=registry)
    if settings.root_path:
        app.add_middleware(PathPrefixMiddleware, prefix=settings.root_path)
    app.add_middleware(StartupErrorsMiddleware, expected=(LayoutMismatch, EmbeddedServerError))
