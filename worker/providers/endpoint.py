"""Where and how one provider is called: its row and its settings together."""

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
    headers: httpx.Headers  # of every call, the key included
    dialect: Dialect
    key: str | None  # to remove it from error texts


def endpoint(row: Provider, settings: ProviderSettings) -> Endpoint | None:
    """Returns None if the provider needs a key and the settings have none."""
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
