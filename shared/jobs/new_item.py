"""Defines an item that is submitted, and creates it from a native request."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from shared.models import NATIVE, LLMRequest, Message
from shared.providers import BUILT_IN, Catalogue, Provider
from shared.queue.item_request import ItemRequest

_PLAIN = {"provider", "model", "messages", "temperature", "max_tokens", "request_id"}
_PLAIN_MESSAGE = {"role", "content"}
_NOT_SENT = _PLAIN | {"stream", "stream_options", "extra_body"}


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item that is submitted.

    request_id: the client's id for the request.
    metadata: text of the client's JSON that comes back with the result; None if there is none.
    format: name of the format in which the client wrote the request.
    """

    request_id: str | None
    request: ItemRequest
    metadata: str | None = None
    format: str = NATIVE


def native_item(request: LLMRequest, catalogue: Catalogue = BUILT_IN) -> NewItem:
    """Returns the item of a native request. The request's provider must be in the catalogue."""
    row = catalogue.rows[request.provider]
    item = ItemRequest(
        provider=row.name, model=row.model_name(request.model), chat=_chat(request, row)
    )
    return NewItem(request.request_id, item)


def is_plain(request: LLMRequest) -> bool:
    """Returns whether the request has only fields and texts that every provider understands."""
    return request.model_fields_set <= _PLAIN and all(
        isinstance(message.content, str) and message.model_fields_set <= _PLAIN_MESSAGE
        for message in request.messages
    )


def _chat(request: LLMRequest, row: Provider) -> dict[str, Any]:
    """Returns the fields of the request to the provider, without `model`.

    Fields that are absent or None are not sent, except for the defaults that the row asks for.
    """
    chat: dict[str, Any] = {"messages": [_message(message) for message in request.messages]}
    written = request.model_fields_set
    defaults = row.fills_defaults
    if request.temperature is not None and (defaults or "temperature" in written):
        chat["temperature"] = request.temperature
    # Two token limits would contradict each other.
    defaults = defaults and request.max_completion_tokens is None
    if request.max_tokens is not None and (defaults or "max_tokens" in written):
        chat["max_tokens"] = request.max_tokens
    if not written <= _PLAIN:
        for name in LLMRequest.model_fields:
            if name in written and name not in _NOT_SENT:
                value = getattr(request, name)
                if value is not None:
                    chat[name] = value
        chat |= request.extra_body or {}
    return chat


def _message(message: Message) -> dict[str, Any]:
    if message.model_fields_set == _PLAIN_MESSAGE:
        return {"role": message.role, "content": message.content}
    return message.model_dump(exclude_unset=True)


async def native_items(
    requests: Iterable[LLMRequest], catalogue: Catalogue = BUILT_IN
) -> AsyncIterator[NewItem]:
    for request in requests:
        yield native_item(request, catalogue)
