"""Calls providers, and returns how a call has failed."""

import asyncio
from typing import Any

import httpx
import pytest

from shared.models import ErrorCode
from shared.providers import PROVIDERS
from shared.queue.item_request import ItemRequest
from shared.queue.verdict import Verdict
from shared.settings import ProviderSettings
from support.providers import endpoint_of
from worker.providers.client import call
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError

KEY = "sk-or-v1-0123456789abcdef"

both_providers = pytest.mark.parametrize("provider", ["openrouter", "ollama"])


def with_key(provider: str, base_url: str, referer: str = "http://localhost:8000") -> Endpoint:
    settings = ProviderSettings(api_key=KEY, base_url=base_url, http_referer=referer)
    return endpoint_of(PROVIDERS[provider], settings)


def chat(
    *contents: str, model: str = "some/model:free", temperature: float = 0.3, max_tokens: int = 7
) -> ItemRequest:
    return {
        "provider": "as in the queue",
        "model": model,
        "chat": {
            "messages": [
                {"role": "user", "content": content} for content in contents or ("hello there",)
            ],
            "temperature": temperature,
            "max_tokens": max_tokens,
        },
    }


async def failure(
    client: httpx.AsyncBaseTransport, endpoint: Endpoint, chat: ItemRequest, *, timeout_s: float = 5
) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async with asyncio.timeout(timeout_s + 20):
            await call(client, endpoint, chat, timeout_s=timeout_s)
    return caught.value


def facts(error: ProviderError) -> dict[str, Any]:
    return vars(error)


def limited(message: str, wait_s: float | None, *, status_code: int = 429) -> ProviderError:
    verdict, code = Verdict.RATE_LIMITED, ErrorCode.RATE_LIMITED
    if status_code != 429:
        verdict, code = Verdict.OVERLOADED, ErrorCode.OVERLOADED
    return ProviderError(verdict, code, message, status_code=status_code, wait_s=wait_s)
