"""Sends batches to the API, and runs an API and a worker with other settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from shared.settings import ProviderSettings, Settings
from support.in_process import running_api, running_worker

Providers = dict[str, ProviderSettings]


async def post(
    client: httpx.AsyncClient,
    *requests: dict[str, Any],
    **options: Any,
) -> httpx.Response:
    return await client.post("/batch", json={"requests": requests}, **options)


async def answers(client: httpx.AsyncClient, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await post(client, *requests)
    assert answer.status_code == 200, answer.text
    responses: list[dict[str, Any]] = answer.json()["responses"]
    return responses


@asynccontextmanager
async def service(
    settings: Settings, providers: Providers, **changes: object
) -> AsyncIterator[httpx.AsyncClient]:
    """Runs an API and a worker with settings that differ from the settings of the fixtures."""
    changed = settings.model_copy(update=changes)
    async with running_worker(changed, providers), running_api(changed) as client:
        yield client
