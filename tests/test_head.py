"""Tests that every address that answers GET also answers HEAD."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from support.authentication import ANN, API_KEYS
from support.jobs import lines, upload
from support.raw_http import connect
from support.stack import Start, free_port

from api.app import create_app
from shared.providers import BUILT_IN
from shared.settings import Settings

CHANGING = {"date", "x-request-id", "content-length"}  # the metrics of two scrapes differ
PATHS = [
    "/",
    "/static/app.js",
    "/docs",
    "/docs/docs.js",
    "/openapi.json",
    "/health",
    "/health/ready",
    "/metrics",
    "/overview",
    "/overview/events",
    "/history",
    "/jobs",
    "{job}",
    "{job}/results",
    "{job}/results?follow=false",
    "{job}/events",
    "/jobs/unknown",
]


async def test_head_is_answered_like_get_without_the_body(stack: Start) -> None:
    """The job does not end, so that GET would wait for more results and events."""
    deployment = await stack(workers=0, key=ANN, API_KEYS=API_KEYS)
    job = await upload(deployment.api, lines(["a", "b"]))
    async with connect(deployment.api.base_url) as connection:
        for path in PATHS:
            target = path.format(job=job)
            await connection.send(
                f"HEAD {target} HTTP/1.1\r\nHost: localhost\r\n".encode()
                + f"Authorization: Bearer {ANN}\r\n\r\n".encode()
            )
            # The connection stays usable: a body would be read as the next response.
            head = await connection.response(body=False)
            async with deployment.api.stream("GET", target) as got:
                assert head.status == got.status_code, target
                assert set(head.headers) == set(got.headers) - {"transfer-encoding"}, target
                for name in set(head.headers) - CHANGING:
                    assert head.headers[name] == got.headers[name], (target, name)


async def test_head_is_refused_where_get_is(stack: Start) -> None:
    deployment = await stack(workers=0, key=ANN, API_KEYS=API_KEYS)

    for path in ("/batch", "/jobs/x/retry"):
        answer = await deployment.api.head(path)

        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    deployment.api.headers.pop("authorization")
    assert (await deployment.api.head("/jobs")).status_code == 401


async def test_an_error_is_answered_without_a_body(settings: Settings) -> None:
    app = create_app(settings, BUILT_IN)

    @app.get("/fails")
    async def fails() -> None:
        raise ZeroDivisionError

    async with served(app) as url, connect(url) as connection:
        await connection.send(b"HEAD /fails HTTP/1.1\r\nHost: localhost\r\n\r\n")
        failed = await connection.response_until_close()

    assert (failed.status, failed.body) == (500, b"")


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[httpx.URL]:
    """Runs uvicorn in this process, so that a test can add a route."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield httpx.URL("http://{}:{}".format(*listener.getsockname()))
        server.should_exit = server.force_exit = True
        await serving


async def test_head_is_counted_with_its_method_and_route(stack: Start) -> None:
    deployment = await stack(workers=0)
    await deployment.api.head("/jobs/unknown/results")

    metrics = (await deployment.api.get("/metrics")).text

    assert (
        'http_server_request_duration_seconds_count{http_request_method="HEAD",'
        'http_response_status_code="404",http_route="/jobs/{job_id}/results"} 1.0' in metrics
    )


@pytest.mark.parametrize("path", ["/metrics", "/"])
async def test_a_workers_metrics_answer_head(stack: Start, path: str) -> None:
    port = free_port()
    deployment = await stack(workers=1, WORKER_METRICS_PORT=str(port))
    url = f"http://127.0.0.1:{port}{path}"

    head, got = await deployment.simulator.head(url), await deployment.simulator.get(url)

    assert (head.status_code, got.status_code) == (200, 200)
    assert head.headers["content-type"] == got.headers["content-type"]
    assert int(head.headers["content-length"]) > 100
