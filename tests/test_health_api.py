"""Tests GET /health and GET /health/ready."""

from pathlib import Path

import httpx
import pytest
from support.in_process import running_api
from support.stack import eventually

from shared.settings import Settings
from shared.version import VERSION


@pytest.fixture
def without_redis(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"redis_url": f"unix://{tmp_path}/no.sock"})


async def test_health_is_ok(api: httpx.AsyncClient) -> None:
    answer = await api.get("/health")

    assert (answer.status_code, answer.content) == (200, b'{"status":"ok"}')


async def test_health_is_ok_without_redis(without_redis: Settings) -> None:
    async with running_api(without_redis) as client:
        answer = await client.get("/health")

    assert (answer.status_code, answer.content) == (200, b'{"status":"ok"}')


async def test_not_ready_without_redis(without_redis: Settings) -> None:
    async with running_api(without_redis) as client:
        answer = await client.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not_ready",
        "redis": "unreachable",
        "workers": None,
        "version": VERSION,
    }


async def test_not_ready_without_worker(api: httpx.AsyncClient) -> None:
    answer = await api.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json() == {"status": "not_ready", "redis": "ok", "workers": 0, "version": VERSION}


@pytest.mark.usefixtures("worker")
async def test_ready_with_a_worker(api: httpx.AsyncClient) -> None:
    async def ready() -> bool:
        return (await api.get("/health/ready")).status_code == 200

    await eventually(ready)
    answer = await api.get("/health/ready")

    assert answer.json() == {"status": "ready", "redis": "ok", "workers": 1, "version": VERSION}
