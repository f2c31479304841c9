"""Tests paths with a slash at the end, and an API that a reverse proxy serves below a prefix."""

import os
from pathlib import Path

import httpx
import pytest
from support.authentication import ANN, API_KEYS
from support.jobs import NDJSON, lines
from support.nginx import needs_nginx
from support.processes import start
from support.stack import Start, chat, eventually, free_port
from support.tls_proxy import no_verification, tls_proxy

from orchestrator_client import AsyncClient
from shared.queue.redis_keys import Keys

BATCH = {"requests": [chat("hello")]}

# A slash at the end


@pytest.mark.parametrize("settings", [{}, {"ROOT_PATH": "/llm"}], ids=["root", "prefix"])
async def test_a_slash_at_the_end_changes_nothing(stack: Start, settings: dict[str, str]) -> None:
    deployment = await stack(workers=1, key=ANN, API_KEYS=API_KEYS, **settings)
    api = deployment.api

    answers = [await api.post(path, json=BATCH) for path in ("/batch", "/batch/", "/batch//")]
    job = f"/jobs/{answers[0].json()['job_id']}"
    created = await api.post("/jobs/?deadline_s=60", content=lines(["x"]), headers=NDJSON)
    pairs = [
        (await api.get(path), await api.get(f"{path}/"))
        for path in (job, f"{job}/results", "/jobs", "/metrics", "/docs", "/openapi.json")
    ]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert created.status_code == 202
    assert created.json()["deadline_at"]
    for plain, slashed in pairs:
        assert plain.status_code == slashed.status_code == 200
        assert plain.headers["content-type"] == slashed.headers["content-type"]
    for path in ("/nothing", "/nothing/", "/static", "/static/", "/health//x/"):
        assert (await api.get(path)).status_code == 404, path
    assert (await api.get("/batch/")).status_code == 405


async def test_a_slash_at_the_end_needs_no_other_key(stack: Start) -> None:
    deployment = await stack(workers=0, key=ANN, API_KEYS=API_KEYS)
    deployment.api.headers.pop("authorization")

    assert (await deployment.api.get("/health/")).json() == {"status": "ok"}
    for path in ("/jobs/", "/overview/", "/health/ready/x/", "/docs/../jobs/"):
        assert (await deployment.api.get(path)).status_code in {401, 404}, path
    assert (await deployment.api.get("/jobs/")).status_code == 401


@needs_nginx
async def test_nothing_is_redirected_behind_tls(stack: Start, tmp_path: Path) -> None:
    deployment = await stack(workers=1)
    location = f"location / {{ proxy_pass {deployment.api.base_url}; }}"
    async with tls_proxy(tmp_path, location) as url, client(url) as outside:
        answer = await outside.post("/batch/", json=BATCH)

    assert answer.status_code == 200


# A path prefix

STRIP = "location /llm/ {{ proxy_pass {url}/; }}"
KEEP = "location /llm {{ proxy_pass {url}; }}"


def client(url: httpx.URL) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, verify=no_verification(), timeout=30)


@needs_nginx
@pytest.mark.parametrize("proxy", [STRIP, KEEP], ids=["strip", "keep"])
async def test_the_api_is_served_below_a_prefix(stack: Start, tmp_path: Path, proxy: str) -> None:
    """The proxy may remove the prefix from the path, or leave it."""
    deployment = await stack(workers=1, key=ANN, API_KEYS=API_KEYS, ROOT_PATH="/llm/")
    locations = proxy.format(url=str(deployment.api.base_url).rstrip("/"))
    async with tls_proxy(tmp_path, locations) as url, client(url) as outside:
        health = await outside.get("/llm/health")
        ready = await outside.get("/llm/health/ready")
        refused = await outside.get("/llm/jobs")
        outside.headers["authorization"] = f"Bearer {ANN}"
        batch = await outside.post("/llm/batch", json=BATCH)
        job = await outside.get(batch.headers["location"])
        accepted = await outside.post("/llm/batch?mode=async", json=BATCH)
        async with outside.stream(
            "POST", "/llm/batch", json=BATCH, headers={"Accept": "application/x-ndjson"}
        ) as streamed:
            await streamed.aread()
        uploaded = await outside.post("/llm/jobs/", content=lines(["x"]), headers=NDJSON)
        schema = (await outside.get("/llm/openapi.json")).json()
        page = await outside.get("/llm", follow_redirects=True)

    assert (health.json(), ready.json()) == ({"status": "ok"}, {"status": "ready"})
    assert refused.status_code == 401
    assert job.json()["job_id"] == batch.json()["job_id"]
    for answer in (batch, accepted, streamed, uploaded):
        assert answer.headers["location"].startswith("/llm/jobs/")
    assert schema["servers"] == [{"url": "/llm"}]
    assert page.status_code == 200
    assert page.url.path == "/llm/"


async def test_the_prefix_is_not_needed_on_the_way_in(stack: Start) -> None:
    """The health check of a container asks the API without the proxy."""
    deployment = await stack(workers=1, ROOT_PATH="/llm")

    assert (await deployment.api.get("/health")).status_code == 200
    assert (await deployment.api.get("/llm/health")).status_code == 200
    assert (await deployment.api.get("/llmx/health")).status_code == 404


async def test_the_client_package_uses_the_prefix(stack: Start) -> None:
    deployment = await stack(workers=1, ROOT_PATH="/llm")
    async with AsyncClient(f"{deployment.api.base_url}/llm") as client:
        batch = await client.batch([chat("hello")])

    assert batch.responses[0].content == "echo: hello"


async def test_uvicorns_root_path_is_a_prefix(valkey_url: str, keys: Keys) -> None:
    port = free_port()
    environment = os.environ | {"REDIS_URL": valkey_url, "KEY_PREFIX": keys.prefix}
    process = await start(
        *("uvicorn", "api.main:app", "--root-path", "/llm", "--port", str(port)),
        *("--log-level", "warning"),
        environment=environment,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as api:

            async def ready() -> bool:
                try:
                    return (await api.get("/health")).is_success
                except httpx.TransportError:
                    return False

            await eventually(ready)
            answers = [
                await api.post(path, json=BATCH)
                for path in ("/batch?mode=async", "/llm/batch?mode=async")
            ]
            schema = (await api.get("/openapi.json")).json()
    finally:
        process.kill()
        await process.wait()

    for answer in answers:
        assert answer.headers["location"].startswith("/llm/jobs/")
    assert schema["servers"] == [{"url": "/llm"}]
