"""Submits requests to an API and a worker of this process, for providers of a `providers.toml`."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from shared.settings import Settings
from shared.settings.providers import load_providers
from support.in_process import running_api, running_worker
from support.jobs import NDJSON, ndjson

HELLO = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True, slots=True)
class Product:
    api: httpx.AsyncClient

    async def native(self, provider: str, **request: Any) -> dict[str, Any]:
        """Sends a native request. Returns the item with its result."""
        requests = [{"provider": provider, "model": "Some/Model", "messages": HELLO} | request]
        answer = await self.api.post("/batch", json={"requests": requests})
        assert answer.status_code == httpx.codes.OK, answer.text
        [item] = answer.json()["responses"]
        assert isinstance(item, dict)
        return item

    async def lines(self, vendor: str, *lines: dict[str, Any], **query: str) -> list[Any]:
        """Sends requests in a vendor's format. Returns their results in the same format."""
        job = await self.api.post("/jobs", content=ndjson(lines), headers=NDJSON, params=query)
        assert job.status_code == httpx.codes.ACCEPTED, job.text
        path = f"{job.headers['location']}/results"
        results = await self.api.get(path, params={"format": vendor})
        return [json.loads(line) for line in results.text.splitlines()]

    async def bodies(self, provider: str, *requests: tuple[str, dict[str, Any]]) -> list[Any]:
        """Sends requests as lines of OpenAI's batch format. Returns the bodies of the results.

        requests: pairs of a path, such as `/v1/embeddings`, and a body.
        """
        envelopes = [
            {"custom_id": str(number), "method": "POST", "url": url, "body": body}
            for number, (url, body) in enumerate(requests)
        ]
        results = await self.lines("openai", *envelopes, provider=provider)
        assert [line["custom_id"] for line in results] == [line["custom_id"] for line in envelopes]
        return [line["response"]["body"] for line in results]


@asynccontextmanager
async def product(settings: Settings, providers_file: Path) -> AsyncIterator[Product]:
    """Runs the API and a worker. The keys of the providers must be in the environment."""
    settings = settings.model_copy(update={"providers_file": providers_file})
    providers = load_providers(settings)
    async with (
        running_api(settings, providers.catalogue) as api,
        running_worker(settings, providers),
    ):
        yield Product(api)
