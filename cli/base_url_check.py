"""Recognises a provider whose base URL leads to the orchestrator's own API.

vLLM and the API have the same default port, 8000.
"""

import os
from collections.abc import Iterable

import httpx

from orchestrator_client.connection import DEFAULT_URL
from shared.loopback import is_loopback
from shared.providers import Provider, variable

TIMEOUT_S = 5.0

Address = tuple[str, int]  # host and port


def address_of(url: str) -> Address | None:
    """Returns the host and the port of a URL.

    Returns None if the URL is not valid, has no host, or has neither a port nor a known scheme.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    port = parsed.port or {"http": 80, "https": 443}.get(parsed.scheme)
    return (parsed.host, port) if parsed.host and port else None


def leads_to(row: Provider, api: Address) -> bool:
    """Returns whether calls to the provider arrive at `api`.

    All loopback names and addresses count as the same host.
    """
    found = address_of(row.base_url)
    if found is None or found[1] != api[1]:
        return False
    return found[0] == api[0] or (is_loopback(found[0]) and is_loopback(api[0]))


def refusal(row: Provider) -> str:
    """Returns a message that says what is wrong with the base URL, and what to do."""
    return (
        f"{row.base_url} is the address of the orchestrator's own API. Set"
        f" {variable(row.name, 'base_url')} to the provider's address, or start the API on another"
        " port (orchestrator up --port)."
    )


async def running_api(rows: Iterable[Provider]) -> Address | None:
    """Returns the address of the API, if the base URL of one of the providers leads to it.

    The address is taken from ORCHESTRATOR_URL or, if this is not set, from DEFAULT_URL. Returns
    None if no orchestrator answers there: the server may then be the provider's own.
    """
    url = os.environ.get("ORCHESTRATOR_URL") or DEFAULT_URL
    address = address_of(url)
    if address is None or not any(leads_to(row, address) for row in rows):
        return None
    return address if await _is_orchestrator(url) else None


async def _is_orchestrator(url: str) -> bool:
    """Returns whether an orchestrator answers `GET /health/ready`, which needs no API key."""
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            health = (await client.get(f"{url.rstrip('/')}/health/ready")).json()
    except (httpx.HTTPError, OSError, ValueError):
        return False
    return isinstance(health, dict) and health.get("status") in {"ready", "not_ready"}
