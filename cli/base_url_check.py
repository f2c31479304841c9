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
    """Returns the host and the port of a URL, or None if it has no host or cannot be read."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    port = parsed.port or {"http": 80, "https": 443}.get(parsed.scheme)
    return (parsed.host, port) if parsed.host and port else None


def leads_to(row: Provider, api: Address) -> bool:
    """Returns whether calls of the provider arrive at `api`. All names of this machine's loopback
    addresses are the same host."""
    found = address_of(row.base_url)
    if found is None or found[1] != api[1]:
        return False
    return found[0] == api[0] or (is_loopback(found[0]) and is_loopback(api[0]))


def refusal(row: Provider) -> str:
    """Returns what is wrong with the base URL, and what to do."""
    return (
        f"{row.base_url} is the address of the orchestrator's own API. Set"
        f" {variable(row.name, 'base_url')} to the provider's address, or start the API on another"
        " port (orchestrator up --port)."
    )


async def running_api(rows: Iterable[Provider]) -> Address | None:
    """Returns the address in ORCHESTRATOR_URL if one of the providers has it and an orchestrator
    answers there, so that a provider's own server at this address stays usable."""
    url = os.environ.get("ORCHESTRATOR_URL") or DEFAULT_URL
    address = address_of(url)
    if address is None or not any(leads_to(row, address) for row in rows):
        return None
    return address if await _is_orchestrator(url) else None


async def _is_orchestrator(url: str) -> bool:
    """Returns whether the health check, which needs no API key, answers as this project does."""
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            health = (await client.get(f"{url.rstrip('/')}/health/ready")).json()
    except (httpx.HTTPError, OSError, ValueError):
        return False
    return isinstance(health, dict) and health.get("status") in {"ready", "not_ready"}
