"""Removes keys and prompts from the error texts of providers. Such texts often quote them."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from shared.queue.item_request import ItemRequest

MAX_SHOWN_TEXT = 300  # limit of a text, in characters
MAX_READ = 20_000  # limit of the part of a text that is read, in characters
# A text quotes a secret if both contain the same sequence of letters and digits of at least this
# many bytes in UTF-8: about two words, or four Chinese characters.
QUOTED_BYTES = 12
MAX_COMPARED = 1_000_000  # limit of the secrets, in characters; above it, no text is shown

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_NO_LETTER = re.compile(r"[\W_]+")
# Images and other files in base64, alone or as a `data:` URL. They are replaced without a
# comparison, because they have millions of characters.
_FILE = re.compile(r"(?:data:[^,\s]{0,200},)?(?:[A-Za-z0-9+/_-]{40,}={0,2}\s*)+")
_MIN_FILE = 1_000  # minimum length of a file, in characters
_FILE_IN_TEXT = re.compile(r"data:[^,\s]{0,200},[A-Za-z0-9+/_=-]*|[A-Za-z0-9+/_-]{40,}={0,2}")

# Fields whose values are the names of things, not text that a user wrote.
_NAMES = frozenset(
    {
        "detail",
        "effort",
        "encoding_format",
        "enum",
        "finish_reason",
        "format",
        "id",
        "call_id",
        "tool_call_id",
        "tool_use_id",
        "media_type",
        "mimetype",
        "mime_type",
        "modalities",
        "model",
        "name",
        "object",
        "reasoning_effort",
        "required",
        "role",
        "service_tier",
        "summary",
        "tool_choice",
        "type",
        "verbosity",
        "voice",
    }
)
_NAME = re.compile(r"[\w./:@-]{1,64}")


def texts(request: ItemRequest) -> Iterator[str]:
    """Yields the texts of the request that a user wrote. They must not appear in an error."""
    if "chat" in request:
        yield from _texts("", request["chat"])
    else:
        try:
            yield from _texts("", orjson.loads('"m"'.join(request["body"])))
        except ValueError:
            yield from request["body"]


def _texts(name: str, value: Any) -> Iterator[str]:  # noqa: ANN401 — JSON
    if isinstance(value, str):
        if not (name.lower() in _NAMES and _NAME.fullmatch(value)):
            yield value
    elif isinstance(value, dict):
        for field, inner in value.items():
            yield from _texts(field, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(name, inner)


def redact(secrets: Iterable[str], text: str) -> str:
    """Returns `text`, shortened, with "…" instead of each secret.

    Returns only "…" if the text still quotes a part of a secret, or if the secrets exceed
    MAX_COMPARED. A part counts as quoted even if the text writes it with other upper and lower
    case, spaces, punctuation or JSON escapes: see QUOTED_BYTES.
    """
    text = text[:MAX_READ]
    compared = []
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) > _MIN_FILE and _FILE.fullmatch(secret):
            text = _FILE_IN_TEXT.sub("…", text)
        elif any(map(str.isalnum, secret)):
            text = _replace(secret, text)
            compared.append(secret)
    if len(text) > MAX_SHOWN_TEXT:
        text = text[:MAX_SHOWN_TEXT] + "…"
    if sum(map(len, compared)) > MAX_COMPARED:
        return "…"
    return "…" if _quotes(text, compared) else text


def _replace(secret: str, text: str) -> str:
    """Returns the text with "…" in place of the secret.

    A secret with fewer than QUOTED_BYTES, such as "a", is replaced only where it is a whole word.
    """
    if len(secret.encode(errors="replace")) >= QUOTED_BYTES:
        return text.replace(secret, "…")
    if secret not in text:
        return text
    return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", text)


def _quotes(text: str, secrets: list[str]) -> bool:
    normalised = _normalise(text)
    last = len(normalised) - QUOTED_BYTES
    runs = {normalised[start : start + QUOTED_BYTES] for start in range(last + 1)}
    compared = b" ".join(map(_normalise, secrets))
    return any(run in compared for run in runs)


def _normalise(text: str) -> bytes:
    r"""Returns the letters and digits of `text`, in lower case, as UTF-8.

    JSON's escapes, such as \u00e9, are decoded first.
    """
    text = _ESCAPE.sub(lambda escape: chr(int(escape.group(1), 16)), text)
    return _NO_LETTER.sub("", text.casefold()).encode(errors="replace")
