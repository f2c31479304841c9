"""Combines the row and the settings of a provider into what a call needs: URL, headers, dialect."""

from dataclasses import dataclass

import httpx

from shared.providers import Provider
from shared.settings import ProviderSettings
from worker.providers.dialect import Dialect
from worker.providers.dialects import DIALECTS

_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
    "Content-Type": "application/json",
    "User-Agent": "llm-batch-orchestrator",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    provider: str
    url: httpx.URL
    headers: httpx.Headers  # headers of every call, including the key
    dialect: Dialect
    key: str | None  # API key, which is removed from error texts


def endpoint(row: Provider, settings: ProviderSettings) -> Endpoint | None:
    """Returns the endpoint, or None if the provider needs a key and the settings have no key."""
    key = settings.api_key.get_secret_value().strip() if settings.api_key else None
    if row.key_required and key is None:
        return None
    dialect = DIALECTS[row.dialect]
    headers = _HEADERS | {
        name: value.format(http_referer=settings.http_referer)
        for name, value in row.headers.items()
    }
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    url = httpx.URL((settings.base_url or row.base_url) + dialect.path)
    return Endpoint(row.name, url, httpx.Headers(headers), dialect, key)
