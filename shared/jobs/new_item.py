"""Defines an item that is submitted, and creates it from a native request."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

from shared.models import NATIVE, LLMRequest, Message, PlainRequest
from shared.providers import BUILT_IN, Catalogue, Provider
from shared.providers.routing import FALLBACK_AFTER_S, Fallback, Target
from shared.queue.fallback_chain import fallback_chain
from shared.queue.item_request import ItemRequest

_PLAIN = {"provider", "model", "messages", "temperature", "max_tokens", "request_id"}
_PLAIN_MESSAGE = {"role", "content"}
_NOT_SENT = _PLAIN | {"stream", "stream_options", "extra_body", "models"}


Json = TypeVar("Json")
_INTEGERS = range(-(2**63), 2**64)  # the integers that the queue can store


class InexactNumber(ValueError):
    """A native request has a number that cannot be stored as it was written.

    `path` leads to the field that contains the number. `str(error)` says what to change.
    """

    def __init__(self, *path: str | int) -> None:
        super().__init__(
            "contains a number that does not fit in 64 bits; write a shorter number, or send the"
            " request in OpenAI's format, which may contain such a number"
        )
        self.path = path


@dataclass(slots=True)  # not frozen, because a frozen NewItem takes longer to create
class NewItem:
    """Holds an item that is submitted.

    request_id: the client's id for the request.
    metadata: text of the client's JSON that is returned with the result; None if there is none.
    format: name of the format in which the client wrote the request.
    """

    request_id: str | None
    request: ItemRequest
    metadata: str | None = None
    format: str = NATIVE


def default_request_id(index: int) -> str:
    """Returns the id that a request without an id gets in a vendor's format and in a retry."""
    return f"request-{index}"


def native_item(
    request: PlainRequest | LLMRequest,
    catalogue: Catalogue = BUILT_IN,
    fallbacks: Sequence[Fallback] = (),
) -> NewItem:
    """Returns the item of a native request. The request's provider must be in the catalogue.

    fallbacks: the providers and models that the request's field `models` names.

    Raises InexactNumber.
    """
    row = catalogue.rows[request.provider]
    item = ItemRequest(
        provider=row.name, model=row.model_name(request.model), chat=_chat(request, row)
    )
    if fallbacks:
        steps = [(step.lane, step.model) for step in fallbacks]
        item["chain"] = fallback_chain(steps, after_s=FALLBACK_AFTER_S, content_filtered=False)
    return NewItem(request.request_id, item)


def chain_of(target: Target) -> str:
    """Returns the `chain` of the items for a target; "" without fallbacks. See `ItemRequest`."""
    return fallback_chain(
        [(step.lane, step.model) for step in target.fallbacks],
        after_s=target.after_s,
        content_filtered=target.content_filtered,
    )


def is_plain(request: PlainRequest | LLMRequest) -> bool:
    """Returns whether the request has only the basic fields, and messages that are only text."""
    if isinstance(request, PlainRequest):
        return True
    return request.model_fields_set <= _PLAIN and all(
        isinstance(message.content, str) and message.model_fields_set <= _PLAIN_MESSAGE
        for message in request.messages
    )


def _chat(request: PlainRequest | LLMRequest, row: Provider) -> dict[str, Any]:
    """Returns the fields of the request to the provider, without `model`.

    Fields that are absent or None are not sent. But if `row.fills_defaults`, the defaults of an
    absent `temperature` or `max_tokens` are sent. Raises InexactNumber.
    """
    chat: dict[str, Any] = {
        "messages": [{"role": m.role, "content": m.content} for m in request.messages]
        if isinstance(request, PlainRequest)
        else [_message(index, message) for index, message in enumerate(request.messages)]
    }
    written = request.model_fields_set
    defaults = row.fills_defaults
    if request.temperature is not None and (defaults or "temperature" in written):
        chat["temperature"] = request.temperature
    if isinstance(request, LLMRequest):
        # Two token limits would contradict each other.
        defaults = defaults and request.max_completion_tokens is None
    if request.max_tokens is not None and (defaults or "max_tokens" in written):
        chat["max_tokens"] = request.max_tokens
    if isinstance(request, LLMRequest) and not written <= _PLAIN:
        for name in LLMRequest.model_fields:
            if name in written and name not in _NOT_SENT:
                value = getattr(request, name)
                if value is not None:
                    chat[name] = _exact(value, name)
        for name, value in (request.extra_body or {}).items():
            chat[name] = _exact(value, "extra_body", name)
    return chat


def _message(index: int, message: Message) -> dict[str, Any]:
    if message.model_fields_set == _PLAIN_MESSAGE:
        content = message.content
        if not isinstance(content, str):
            _exact(content, "messages", index, "content")
        return {"role": message.role, "content": content}
    return _exact(message.model_dump(exclude_unset=True), "messages", index)


def _exact(value: Json, *path: str | int) -> Json:
    """Returns the JSON value. Raises InexactNumber if a number in it cannot be stored."""
    if not _is_exact(value):
        raise InexactNumber(*path)
    return value


def _is_exact(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_exact, value.values()))
    if isinstance(value, list):
        return all(map(_is_exact, value))
    if isinstance(value, float):
        return isfinite(value)
    return not isinstance(value, int) or value in _INTEGERS


async def native_items(
    requests: Iterable[PlainRequest | LLMRequest], catalogue: Catalogue = BUILT_IN
) -> AsyncIterator[NewItem]:
    for request in requests:
        yield native_item(request, catalogue)
