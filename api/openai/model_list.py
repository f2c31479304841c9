"""Lists the models of this server as OpenAI's API does: aliases, and what the providers list.

The providers are asked when a client asks for the list, and their lists are kept for `KEPT_S`. If a
provider does not answer, its last list stays; without a list, its models are left out, but can be
used.
"""

import asyncio
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from time import monotonic
from typing import Any

import httpx
import orjson
import structlog

from api.errors.openai_errors import OpenAIError
from api.openai.schemas import OpenAIModel, OpenAIModels
from shared.dialects.dialects import DIALECTS
from shared.dialects.values import record, records
from shared.providers import Catalogue, Provider
from shared.providers.call_headers import call_headers
from shared.providers.routing import RoutingError, route
from shared.settings import ProviderSettings

KEPT_S = 300.0
TIMEOUT_S = 5.0
MAX_BYTES = 4 * 1024 * 1024  # OpenRouter's list of 400 models has 1 MB
MAX_MODELS = 2000  # limit per provider

log = structlog.get_logger()


class ModelList:
    """Lists models. `providers` has the settings of the providers to ask, with their API keys."""

    def __init__(self, catalogue: Catalogue, providers: Mapping[str, ProviderSettings]) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._known: dict[str, list[str]] = {}  # the providers' own ids, by provider
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()

    async def models(self) -> OpenAIModels:
        async with self._asking:
            if self._asked_at is None or monotonic() - self._asked_at > KEPT_S:
                await self._ask_all()
                self._asked_at = monotonic()
        aliases = [
            OpenAIModel(id=name, owned_by=alias.deployments[0].provider)
            for name, alias in sorted(self._catalogue.aliases.items())
        ]
        listed = [
            OpenAIModel(id=f"{provider}/{model}", owned_by=provider)
            for provider, models in sorted(self._known.items())
            for model in models
        ]
        return OpenAIModels(data=aliases + listed)

    async def _ask_all(self) -> None:
        names = sorted(self._catalogue.configured & self._providers.keys())
        # Like a worker, this client uses no proxies from the environment and follows no redirects.
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            answers = await asyncio.gather(*(self._ask(client, name) for name in names))
        for name, models in zip(names, answers, strict=True):
            if models is not None:  # otherwise the last list stays
                self._known[name] = models

    async def _ask(self, client: httpx.AsyncClient, name: str) -> list[str] | None:
        row, settings = self._catalogue.rows[name], self._providers[name]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return model_ids(orjson.loads(await _get(client, row, settings)))
        except (httpx.HTTPError, OSError, ValueError) as error:
            log.info("models_not_listed", provider=name, reason=type(error).__name__)
            return None


async def _get(client: httpx.AsyncClient, row: Provider, settings: ProviderSettings) -> bytes:
    url = row.base_url + DIALECTS[row.dialect].models_path
    body = bytearray()
    async with client.stream("GET", url, headers=call_headers(row, settings)) as response:
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError("the list is too long")
    return bytes(body)


def model_ids(listed: Any) -> list[str]:  # noqa: ANN401 — JSON
    """Returns the ids in a provider's list of models, at most MAX_MODELS.

    The list is in `data` (OpenAI, Anthropic), in `models` (Gemini, Ollama), or is the whole body
    (Together). Gemini's names begin with `models/`.
    """
    items = listed if isinstance(listed, list) else next(iter(_lists(record(listed))), [])
    names = (item.get("id") or item.get("name") for item in records(items)[:MAX_MODELS])
    return [name.removeprefix("models/") for name in names if isinstance(name, str)]


def _lists(listed: Mapping[str, Any]) -> Iterable[list[Any]]:
    return (listed[name] for name in ("data", "models") if isinstance(listed.get(name), list))


def find_model(model: str, catalogue: Catalogue, default_provider: str | None) -> OpenAIModel:
    """Returns the description of the model that a request names.

    Whether the provider has the model is not checked. Raises OpenAIError 404 if the name leads to
    no provider: see `route`.
    """
    try:
        target = route(catalogue, model, provider=None, default_provider=default_provider)
    except RoutingError as error:
        raise OpenAIError(
            HTTPStatus.NOT_FOUND, str(error), code="model_not_found", param="model"
        ) from None
    return OpenAIModel(id=model, owned_by=target.provider.name)
