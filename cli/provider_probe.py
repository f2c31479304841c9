"""Finds out whether providers can be reached and accept the key, without calling a model."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

import httpx

from cli.base_url_check import Address, leads_to, refusal
from shared.dialects.dialects import DIALECTS
from shared.providers import Provider, variable
from shared.providers.call_headers import call_headers
from shared.settings import ProviderSettings
from shared.settings.providers import Providers

TIMEOUT_S = 5.0
_MAX_BODY_BYTES = 10_000


class ProviderHealth(StrEnum):
    READY = "ready"  # the provider answers, and accepts the key if there is a key
    UNCHECKED = "key not checked"  # the provider answers, but the answer does not depend on the key
    KEY_REFUSED = "key refused"
    FAILING = "failing"  # the provider answers with another error, or not with JSON
    UNREACHABLE = "unreachable"
    MISSING = "not configured"  # the provider cannot be called, because a setting is missing
    OWN_API = "own API"  # the base URL leads to the orchestrator's API, not to a provider


@dataclass(frozen=True, slots=True)
class Probe:
    """Says how healthy a provider is. `detail` says what happened, and what to do."""

    provider: str
    health: ProviderHealth
    detail: str

    @property
    def is_good(self) -> bool:
        return self.health in {ProviderHealth.READY, ProviderHealth.UNCHECKED}


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    is_json: bool
    start: bytes


async def probe_all(
    providers: Providers, names: Iterable[str], api: Address | None = None
) -> list[Probe]:
    """Probes the providers at the same time. Takes at most twice TIMEOUT_S.

    api: the host and port of the orchestrator's API. A provider whose base URL leads there is not
        called, but has the health OWN_API. None: no provider is compared with the API.
    """
    missing = providers.missing()
    # Workers do not use proxies from the environment and do not follow redirects either.
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
        return await asyncio.gather(
            *(_probe(client, providers, name, missing, api) for name in names)
        )


async def _probe(
    client: httpx.AsyncClient,
    providers: Providers,
    name: str,
    missing: Mapping[str, str],
    api: Address | None,
) -> Probe:
    """Probes a provider with each of its keys.

    Returns the result of the first key that does not work or, if all work, of the first key.
    """
    if name in missing:
        return Probe(name, ProviderHealth.MISSING, missing[name])
    row, settings = providers.catalogue.rows[name], providers.settings[name]
    if api is not None and leads_to(row, api):
        return Probe(name, ProviderHealth.OWN_API, refusal(row))
    keys = settings.keys
    probes = await asyncio.gather(
        *(
            _probe_account(client, row, number, settings.with_key(keys.get(number)))
            for number in keys or (1,)
        )
    )
    return next((probe for probe in probes if not probe.is_good), probes[0])


async def _probe_account(
    client: httpx.AsyncClient, row: Provider, number: int, settings: ProviderSettings
) -> Probe:
    url = row.base_url + (row.check_path or DIALECTS[row.dialect].models_path)
    try:
        reply = await _ask(client, url, row, settings)
        health, detail = _judge(row, number, reply, has_key=settings.key is not None)
        if health is ProviderHealth.READY and settings.key is not None:
            # Some providers list their models without a key, so this answer may not prove the key.
            keyless = await _ask(client, url, row, settings.with_key(None))
            if keyless.status < HTTPStatus.BAD_REQUEST:
                health, detail = ProviderHealth.UNCHECKED, "answers even without a key"
    except (TimeoutError, httpx.TimeoutException):
        health, detail = ProviderHealth.UNREACHABLE, f"did not answer in {TIMEOUT_S:g} s"
    except httpx.ConnectError:
        advice = f"start it, or correct {variable(row.name, 'base_url')}"
        health, detail = ProviderHealth.UNREACHABLE, f"can't connect; {advice}"
    except (httpx.HTTPError, OSError, UnicodeError) as error:
        health, detail = ProviderHealth.UNREACHABLE, str(error) or type(error).__name__
    return Probe(row.name, health, f"{url}: {detail}")


async def _ask(
    client: httpx.AsyncClient, url: str, row: Provider, settings: ProviderSettings
) -> _Reply:
    headers = call_headers(row, settings)
    async with (
        asyncio.timeout(TIMEOUT_S),
        client.stream("GET", url, headers=headers) as response,
    ):
        start = b""
        async for chunk in response.aiter_bytes():
            start += chunk
            if len(start) >= _MAX_BODY_BYTES:
                break
        is_json = "json" in response.headers.get("content-type", "")
        return _Reply(response.status_code, is_json, start)


def _judge(
    row: Provider, number: int, reply: _Reply, *, has_key: bool
) -> tuple[ProviderHealth, str]:
    variables = " or ".join(row.variables_of_key(number))
    refused = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    # Gemini: https://ai.google.dev/gemini-api/docs/troubleshooting
    if reply.status in refused or b"API_KEY_INVALID" in reply.start:
        advice = f"correct {variables}" if has_key else f"it needs a key: set {variables}"
        return ProviderHealth.KEY_REFUSED, f"answered {reply.status}; {advice}"
    if reply.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
        return (
            ProviderHealth.UNCHECKED,
            f"has no list of models ({reply.status}), so the key was not checked",
        )
    if reply.status >= HTTPStatus.MULTIPLE_CHOICES:
        return ProviderHealth.FAILING, f"answered {reply.status}"
    if not reply.is_json:
        return (
            ProviderHealth.FAILING,
            "answered with something that is not JSON; check the base URL",
        )
    return ProviderHealth.READY, "answers and accepts the key" if has_key else "answers"
