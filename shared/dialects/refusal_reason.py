"""Finds a provider's reason for a refusal in the JSON of the response."""

import re
from collections.abc import Iterator
from typing import Any

import orjson

_MAX_DEPTH = 6
_MAX_REASONS = 3  # limit of the reasons that are taken from a list
# Names of fields that contain the reason, in the order in which they are tried.
_NAMES = (
    "message",
    "error",
    "detail",
    "details",
    "msg",
    "errors",
    "error_message",
    "error_description",
    "reason",
)
_CODES = (
    "code",
    "type",
    "status",
    "error_code",
    "error_type",
    "provider_code",  # OpenRouter: the code of the provider behind the gateway
    "reason",
    "__type",  # AWS
)
# Fields in which further errors may be
_WITH_CODES = ("error", "errors", "detail", "details", "innererror", "metadata")


def reason(value: Any, depth: int = 0) -> str:  # noqa: ANN401 — JSON
    """Returns the reason in `value`, which is parsed JSON or a text; "" if there is no reason.

    The message of a gateway may say only that the provider behind it failed. So `metadata.raw`,
    which is the response of the provider behind the gateway, is added:
    https://openrouter.ai/docs/api-reference/errors
    """
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, str):
        return _inner(value, depth)
    if isinstance(value, list):
        found = (reason(item, depth + 1) for item in value[:_MAX_REASONS])
        return "; ".join(dict.fromkeys(filter(None, found)))
    if not isinstance(value, dict):
        return ""
    message = next(filter(None, (reason(value.get(name), depth + 1) for name in _NAMES)), "")
    if message and isinstance(value.get("loc"), list):  # FastAPI, for example vLLM
        message = f"{'.'.join(map(str, value['loc']))}: {message}"
    metadata = value.get("metadata")
    raw = reason(metadata.get("raw"), depth + 1) if isinstance(metadata, dict) else ""
    return message if raw in message else ": ".join(filter(None, (message, raw)))


def _inner(text: str, depth: int) -> str:
    """Returns the reason in a text that is JSON itself. Returns any other text as it is."""
    if text.lstrip()[:1] not in ("{", "["):
        return text.strip()
    try:
        return reason(orjson.loads(text), depth + 1) or text
    except ValueError:
        return text


def codes(value: Any) -> frozenset[str]:  # noqa: ANN401 — JSON
    """Returns the codes in an error, as lower-case letters and digits, such as `modelnotfound`.

    Other characters are left out.
    """
    return frozenset(_codes(value, 0))


def _codes(value: Any, depth: int) -> Iterator[str]:  # noqa: ANN401 — JSON
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value[:_MAX_REASONS]:
            yield from _codes(item, depth + 1)
    elif isinstance(value, dict):
        for name in _CODES:
            if isinstance(code := value.get(name), str | int):
                yield "".join(filter(str.isalnum, str(code).lower()))
        for name in _WITH_CODES:
            yield from _codes(value.get(name), depth + 1)


# A name, such as `messages[0].content`. A name has no spaces, because a text with spaces may be a
# part of a prompt.
_NAME = re.compile(r"(?=.*[^0-9])[\w.\[\]-]{1,100}")


def names(value: Any) -> dict[str, str]:  # noqa: ANN401 — JSON
    """Returns those of the fields `type`, `param` and `code` of an error that are names.

    The error has OpenAI's format. Returns {} for any other value.
    """
    inner = value.get("error") if isinstance(value, dict) else None
    error = inner if isinstance(inner, dict) else value
    if not isinstance(error, dict):
        return {}
    given = {name: error.get(name) for name in ("type", "param", "code")}
    return {name: v for name, v in given.items() if isinstance(v, str) and _NAME.fullmatch(v)}
