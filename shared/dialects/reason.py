"""Finds a provider's reason for a refusal, wherever it stands in the JSON of the response."""

from typing import Any

import orjson

MAX_DEPTH = 6
MAX_REASONS = 3  # of a list
# Names of fields that contain the reason, in the order in which they are tried.
_NAMES = ("message", "error", "detail", "details", "msg", "errors", "error_description", "reason")


def reason(value: Any, depth: int = 0) -> str:  # noqa: ANN401 — JSON
    """Returns the reason in `value`, or "" if there is none.

    A gateway's message may say only that the provider behind it failed. So the text in
    `metadata.raw`, which is the message of the provider behind it, is added.
    """
    if depth > MAX_DEPTH:
        return ""
    if isinstance(value, str):
        return _inner(value, depth)
    if isinstance(value, list):
        found = (reason(item, depth + 1) for item in value[:MAX_REASONS])
        return "; ".join(filter(None, found))
    if not isinstance(value, dict):
        return ""
    message = next(filter(None, (reason(value.get(name), depth + 1) for name in _NAMES)), "")
    metadata = value.get("metadata")
    raw = reason(metadata.get("raw"), depth + 1) if isinstance(metadata, dict) else ""
    return message if raw in message else ": ".join(filter(None, (message, raw)))


def _inner(text: str, depth: int) -> str:
    """Returns the reason in a text that is itself JSON, else the text."""
    if text.lstrip()[:1] not in ("{", "["):
        return text.strip()
    try:
        return reason(orjson.loads(text), depth + 1) or text
    except ValueError:
        return text
