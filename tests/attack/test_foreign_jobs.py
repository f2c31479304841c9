"""Tests that an owner cannot find out which jobs other owners have."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from arq.connections import ArqRedis
from support.authentication import ANN, API_KEYS, BOB
from support.in_process import running_api, running_worker
from support.jobs import lines, upload, wait_completed

from shared.settings import ProviderSettings, Settings, load_settings

MARKER = "all commands before this one are known"


@pytest.fixture
async def api(
    settings: Settings, providers: dict[str, ProviderSettings], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("API_KEYS", API_KEYS)
    settings = settings.model_copy(update={"api_keys": load_settings().api_keys})
    async with running_api(settings) as client, running_worker(settings, providers):
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/retry"),
        ("GET", "/results"),
        ("GET", "/results?format=openai"),
        ("GET", "/events"),
    ],
)
async def test_a_foreign_job_costs_what_a_missing_job_costs(
    api: httpx.AsyncClient, redis: ArqRedis, method: str, path: str
) -> None:
    """Compares the commands that Redis runs, because their number makes the difference in time."""
    ann, bob = ({"authorization": f"Bearer {key}"} for key in (ANN, BOB))
    api.headers.update(ann)
    location = await upload(api, lines(["x" * 50_000] * 20))
    await wait_completed(api, location)
    api.headers.update(bob)

    async def commands(job_id: str) -> list[str]:
        async with redis.monitor() as monitor:
            answer = await api.request(method, f"/jobs/{job_id}{path}")
            await redis.echo(MARKER)
            seen = []
            while MARKER not in (command := (await monitor.next_command())["command"]):
                if job_id in command:
                    seen.append(command.replace(job_id, "ID"))
        assert answer.status_code == 404
        assert job_id not in answer.text
        return seen

    foreign, missing = location.removeprefix("/jobs/"), uuid4().hex
    assert await commands(missing)  # loads the scripts
    assert await commands(foreign) == await commands(missing)
