"""Applies a provider's row to the fields of native and translated requests.

A foreign body that the provider understands is sent as the client wrote it.
"""

from collections.abc import Mapping
from typing import Any

from shared.dialects.dialect import Codec
from shared.providers.provider_row import Provider

_TOKEN_LIMITS = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}


def body_of(row: Provider, codec: Codec, model: str, chat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the body of a native or translated call.

    `chat` has the fields of an OpenAI chat request without `model`. Raises Untranslatable.
    """
    chat = _accepted(row, chat)
    return codec.translate(model, chat) if codec.translate else {"model": model, **chat}


def _accepted(row: Provider, chat: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns `chat` without the row's unsupported fields.

    The token limit gets the name that the row uses, if `chat` has it under the other name.
    """
    other = _TOKEN_LIMITS[row.token_limit_param]
    if other not in chat and not row.unsupported:
        return chat
    fields = {name: value for name, value in chat.items() if name not in row.unsupported}
    if other in fields:
        limit = fields.pop(other)
        fields.setdefault(row.token_limit_param, limit)
    return fields
