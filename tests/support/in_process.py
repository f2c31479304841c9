"""Runs the API and the worker inside the test's process, so that no process has to be started."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.routing import BaseRoute

from api.app import create_app
from shared.providers import BUILT_IN, PROVIDERS, Catalogue
from shared.redis.client import connect
from shared.settings import ProviderSettings, Settings
from shared.settings.providers import Providers
from support.providers import combined
from worker.factory import make_worker

LEASE_S = 3.0  # a busy machine may stop a process for a second

_routes: dict[bool, list[BaseRoute]] = {}


@asynccontextmanager
async def running_api(
    settings: Settings,
    catalogue: Catalogue = BUILT_IN,
    *,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """Runs the API. Yields a client of the API that sends `headers` with every request."""
    app = _app(settings, catalogue)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=30, headers=headers
        ) as client,
    ):
        yield client


@asynccontextmanager
async def served_api(
    settings: Settings, catalogue: Catalogue = BUILT_IN
) -> AsyncIterator[httpx.AsyncClient]:
    """Runs uvicorn in this process. A client can disconnect, and a test can change constants."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(_app(settings, catalogue), log_level="critical")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        url = "http://{}:{}".format(*listener.getsockname())
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            yield client
        server.should_exit = server.force_exit = True
        await serving


def _app(settings: Settings, catalogue: Catalogue) -> FastAPI:
    """Returns a new application with the routes of the first one.

    The framework prepares the routes at the first request, for 30 ms. Routes have no state; they
    differ only in whether they serve the dashboard.
    """
    app = create_app(settings, catalogue)
    app.router.routes = _routes.setdefault(settings.dashboard, app.router.routes)
    return app


@asynccontextmanager
async def running_worker(
    settings: Settings, providers: Mapping[str, ProviderSettings] | Providers
) -> AsyncIterator[None]:
    """Runs a worker that knows these providers, or the built-in providers with these settings."""
    known = (
        providers
        if isinstance(providers, Providers)
        else combined({name: PROVIDERS[name] for name in providers}, providers)
    )
    worker = make_worker(settings, known, connect(settings.redis_url or ""), handle_signals=False)
    task = asyncio.create_task(worker.main())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await worker.close()
