"""Combines the row and the settings of a provider into what a call needs: URL, headers, body."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import orjson

from shared.dialects.dialect import Codec, Dialect
from shared.dialects.dialects import DIALECTS
from shared.dialects.parameters import body_of
from shared.providers import Provider
from shared.queue.item_request import ItemRequest
from shared.settings import ProviderSettings

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
    base_url: str
    urls: Mapping[str, httpx.URL]  # URLs by path, for the paths without a model's name
    headers: httpx.Headers  # headers of every call, including the key
    dialect: Dialect
    key: str | None  # API key, which is removed from error texts
    row: Provider

    def codec(self, request: ItemRequest) -> Codec | None:
        """Returns the codec of a request, or None if the dialect has none."""
        if "chat" in request:
            return self.dialect.native
        return self.dialect.foreign.get(request["operation"])

    def url(self, codec: Codec, model: str) -> httpx.URL:
        return self.urls.get(codec.path) or httpx.URL(
            self.base_url + codec.path.format(model=model)
        )


def encode(row: Provider, codec: Codec, request: ItemRequest) -> bytes:
    """Returns the body of a call. Raises Untranslatable."""
    model = request["model"]
    if "chat" in request:
        return orjson.dumps(body_of(row, codec, model, request["chat"]))
    body = orjson.dumps(model).join(part.encode() for part in request["body"])
    if codec.translate is None:
        return body
    chat = {name: value for name, value in orjson.loads(body).items() if name != "model"}
    return orjson.dumps(body_of(row, codec, model, chat))


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
    base_url = settings.base_url or row.base_url
    paths = {codec.path for codec in (dialect.native, *dialect.foreign.values())}
    urls = {path: httpx.URL(base_url + path) for path in paths if "{model}" not in path}
    return Endpoint(row.name, base_url, urls, httpx.Headers(headers), dialect, key, row)
