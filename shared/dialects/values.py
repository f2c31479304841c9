"""Reads values of providers' JSON, whose types are not always the documented types.

An unexpected value must not make an answer fail, because the answer has been paid for.
"""

from typing import Any

MAX_TOKENS, MAX_USD = 2**31, 1e6  # limits; larger values are mistakes of the provider


def record(value: object) -> dict[str, Any]:
    """Returns `value` if it is a JSON object, else an empty dict."""
    return value if isinstance(value, dict) else {}


def records(value: object) -> list[dict[str, Any]]:
    """Returns the JSON objects in `value` if it is an array, else an empty list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(content: object) -> str:
    """Returns the text of a content: a string, or the joined texts of its parts; else ""."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return text_of(content.get("text"))
    if isinstance(content, list):
        return "".join(part if isinstance(part, str) else _text(part) for part in content)
    return ""


def _text(part: object) -> str:
    """Returns the text of a part, or "" if the part is not a text but, for example, a thought."""
    fields = record(part)
    text = fields.get("text") if fields.get("type", "text") in _TEXT_TYPES else None
    return text if isinstance(text, str) else ""


_TEXT_TYPES = ("text", "output_text", None)


def word(value: object) -> str | None:
    """Returns a word such as a finish reason, or None if `value` contains no word.

    Some providers wrap the word in an object.
    """
    if isinstance(value, dict):
        value = value.get("type") or value.get("reason")
    return value if isinstance(value, str) else None


def tokens(value: object) -> int:
    """Returns a token count, or 0 if it is invalid."""
    if type(value) is float and value.is_integer():
        return tokens(int(value))
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else 0


def usd(value: object) -> float | None:
    is_valid = type(value) in {int, float} and 0 <= value <= MAX_USD  # type: ignore[operator]
    return value if is_valid else None  # type: ignore[return-value]
