"""Builds the headers of calls to a provider.

The headers that only one provider gets are in the provider's row: see built_in.py.
"""

import httpx

from shared.providers.provider_row import Provider
from shared.providers.provider_settings import ProviderSettings

_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
    "Content-Type": "application/json",
    "User-Agent": "llm-batch-orchestrator",
}


def call_headers(
    row: Provider, settings: ProviderSettings, auth: str | None = None
) -> httpx.Headers:
    """Returns the headers of a call, with the key if the settings contain a key.

    `auth` replaces the row's `auth` for this kind of call, unless the row's `auth` is `none`.
    """
    headers = httpx.Headers(_HEADERS)
    for name, value in row.headers.items():
        headers[name] = value.replace("{http_referer}", settings.http_referer)
    if settings.key is not None and row.auth != "none":
        auth = auth or row.auth
        if auth == "bearer":
            headers["Authorization"] = f"Bearer {settings.key}"
        else:
            headers[auth] = settings.key
    return headers
