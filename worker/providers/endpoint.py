"""Combines the row and the settings of a provider into what a call needs: URL, headers, body."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import orjson

from shared.dialects.dialect import Codec, Dialect
from shared.dialects.dialects import DIALECTS
from shared.memory_budget import MemoryBudget
from shared.providers import Provider, account
from shared.providers.call_headers import call_headers
from shared.providers.parameters import body_of
from shared.queue.item_request import ItemRequest
from shared.settings import MAX_ANSWER_BYTES, WORKER_MEMORY_BYTES, ProviderSettings


@dataclass(frozen=True, slots=True)
class Endpoint:
    provider: str
    base_url: str
    urls: Mapping[str, httpx.URL]  # URLs by path, for the paths without a model's name
    headers: httpx.Headers  # headers of a call, including the key
    headers_by_auth: Mapping[str, httpx.Headers]  # headers of calls with another authentication
    dialect: Dialect
    timeout_s: float  # time limit of a call
    keys: tuple[str, ...]  # all keys of the provider, which are removed from error texts
    row: Provider
    max_answer_bytes: int = MAX_ANSWER_BYTES
    memory: MemoryBudget = field(default_factory=lambda: MemoryBudget(WORKER_MEMORY_BYTES))

    def codec(self, request: ItemRequest) -> Codec | None:
        """Returns the codec of a request, or None if the dialect does not have the operation."""
        if "chat" in request:
            return self.dialect.native
        return self.dialect.foreign.get(request["operation"])

    def url(self, codec: Codec, model: str) -> httpx.URL:
        if codec.model_path is None:
            return self.urls[codec.path]
        return httpx.URL(self.base_url + codec.path.format(model=codec.model_path(model)))

    def call_headers(self, codec: Codec) -> httpx.Headers:
        return self.headers if codec.auth is None else self.headers_by_auth[codec.auth]


def encode(row: Provider, codec: Codec, request: ItemRequest) -> bytes:
    """Returns the body of a call. Raises Untranslatable."""
    model = request["model"]
    if "chat" in request:
        return orjson.dumps(body_of(row, codec, model, request["chat"]))
    body = orjson.dumps(model).join(part.encode() for part in request["body"])
    stream = _stream_fields(row, codec, request) if "stream" in request else {}
    if codec.translate is None:
        return b"%b,%b" % (body[:-1], orjson.dumps(stream)[1:]) if stream else body
    chat = {name: value for name, value in orjson.loads(body).items() if name != "model"}
    return orjson.dumps({**body_of(row, codec, model, chat), **stream})


def _stream_fields(row: Provider, codec: Codec, request: ItemRequest) -> dict[str, Any]:
    """Returns the fields that ask for a stream; {} if the codec has no stream.

    The fields also ask for the usage, if the codec needs this and the provider supports it.
    """
    if codec.stream is None:
        return {}
    options = dict(request["stream"])
    if codec.stream_usage and "stream_options" not in row.unsupported:
        options["include_usage"] = True
    return {"stream": True, "stream_options": options} if options else {"stream": True}


def endpoint(row: Provider, settings: ProviderSettings, *, timeout_s: float) -> Endpoint:
    """Returns the endpoint. `timeout_s` is the time limit of a call if the row has none."""
    dialect = DIALECTS[row.dialect]
    codecs = (dialect.native, *dialect.foreign.values())
    by_auth = {codec.auth for codec in codecs if codec.auth}
    return Endpoint(
        provider=row.name,
        base_url=row.base_url,
        urls={c.path: httpx.URL(row.base_url + c.path) for c in codecs if c.model_path is None},
        headers=call_headers(row, settings),
        headers_by_auth={auth: call_headers(row, settings, auth) for auth in by_auth},
        dialect=dialect,
        timeout_s=row.timeout_s or timeout_s,
        keys=tuple(settings.keys.values()),
        row=row,
    )


def endpoints(
    row: Provider,
    settings: ProviderSettings,
    *,
    timeout_s: float,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
    memory: MemoryBudget | None = None,
) -> dict[str, Endpoint]:
    """Returns the endpoint of each account of a provider, by the account's name.

    A provider without a key has one account, too. The large answers of all accounts share `memory`.
    """
    memory = memory or MemoryBudget(WORKER_MEMORY_BYTES)
    keys = settings.keys
    return {
        account(row.name, number): replace(
            endpoint(row, settings.with_key(keys.get(number)), timeout_s=timeout_s),
            keys=tuple(keys.values()),
            max_answer_bytes=max_answer_bytes,
            memory=memory,
        )
        for number in keys or (1,)
    }
