"""Tests that an owner cannot find out which jobs other owners have."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from arq.connections import ArqRedis
from support.authentication import ANN, API_KEYS, BOB
from support.in_process import running_api, running_worker
from support.jobs import lines, upload, wait_completed

from shared.settings import ProviderSettings, Settings, load_settings

# Counting lines would double its time, and other tests run the same lines.
pytestmark = pytest.mark.no_cover

MARKER = "all commands before this one are known"


@pytest.fixture
async def api(
    settings: Settings, providers: dict[str, ProviderSettings], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("API_KEYS", API_KEYS)
    settings = settings.model_copy(update={"api_keys": load_settings().api_keys})
    async with running_api(settings) as client, running_worker(settings, providers):
        yield client


async def commands(
    api: httpx.AsyncClient, redis: ArqRedis, method: str, path: str, given: str
) -> list[str]:
    """Returns the commands that Redis runs for a request that gets a 404, and the answer.

    Their number makes the difference in time. `ID` stands for `given`.
    """
    body = {"input_file_id": given, "endpoint": "/v1/embeddings", "completion_window": "1d"}
    async with redis.monitor() as monitor:
        answer = await api.request(
            method, path.format(id=given), json=body if path == "/v1/batches" else None
        )
        await redis.echo(MARKER)
        seen = []
        while MARKER not in (command := (await monitor.next_command())["command"]):
            if given in command:
                seen.append(command.replace(given, "ID"))
    assert answer.status_code == 404
    return [*seen, answer.text.replace(given, "ID")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/{id}"),
        ("DELETE", "/jobs/{id}"),
        ("POST", "/jobs/{id}/retry"),
        ("GET", "/jobs/{id}/results"),
        ("GET", "/jobs/{id}/results?format=openai"),
        ("GET", "/jobs/{id}/events"),
        ("GET", "/v1/batches/batch_{id}"),
        ("GET", "/v1/batches?after=batch_{id}"),
        ("POST", "/v1/batches/batch_{id}/cancel"),
        ("GET", "/v1/files/file-{id}-output"),
        ("GET", "/v1/files/file-{id}-output/content"),
        ("DELETE", "/v1/files/file-{id}-output"),
    ],
)
async def test_a_foreign_job_costs_what_a_missing_job_costs(
    api: httpx.AsyncClient, redis: ArqRedis, method: str, path: str
) -> None:
    ann, bob = ({"authorization": f"Bearer {key}"} for key in (ANN, BOB))
    api.headers.update(ann)
    location = await upload(api, lines(["x" * 50_000] * 20))
    await wait_completed(api, location)
    api.headers.update(bob)

    foreign, missing = location.removeprefix("/jobs/"), uuid4().hex
    assert await commands(api, redis, method, path, missing)  # loads the scripts
    assert await commands(api, redis, method, path, foreign) == await commands(
        api, redis, method, path, missing
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/files/{id}"),
        ("GET", "/v1/files/{id}/content"),
        ("GET", "/v1/files?after={id}"),
        ("DELETE", "/v1/files/{id}"),
        ("POST", "/v1/batches"),
    ],
)
async def test_a_foreign_file_costs_what_a_missing_file_costs(
    api: httpx.AsyncClient, redis: ArqRedis, method: str, path: str
) -> None:
    api.headers["authorization"] = f"Bearer {ANN}"
    form: dict[str, Any] = {"files": {"file": b"x" * 50_000}, "data": {"purpose": "batch"}}
    foreign: str = (await api.post("/v1/files", **form)).json()["id"]
    api.headers["authorization"] = f"Bearer {BOB}"

    missing = f"file-{uuid4().hex}"
    assert await commands(api, redis, method, path, missing)  # loads the scripts
    assert await commands(api, redis, method, path, foreign) == await commands(
        api, redis, method, path, missing
    )
