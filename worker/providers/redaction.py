"""Removes keys and prompts from the error texts of providers, which often quote them."""

import re
from collections.abc import Iterable

MAX_TEXT = 300  # limit of a text, in characters
# A text quotes a secret if both contain the same sequence of letters and digits, and the sequence
# has this many bytes in UTF-8: about two words, or four Chinese characters.
QUOTED_BYTES = 12
MAX_COMPARED = 200_000  # limit of the secrets, in characters; above it, no text is shown

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def redact(secrets: Iterable[str], text: str) -> str:
    """Returns `text`, shortened, with "…" instead of each secret.

    Returns only "…" if the text still contains a part of a secret, or if the secrets exceed
    MAX_COMPARED. Upper and lower case, spaces, punctuation and JSON escapes make no difference.
    """
    secrets = sorted(filter(None, secrets), key=len, reverse=True)
    for secret in secrets:
        text = text.replace(secret, "…")
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + "…"
    if sum(map(len, secrets)) > MAX_COMPARED:
        return "…"
    normalised = _normalise(text)
    last = len(normalised) - QUOTED_BYTES
    runs = {normalised[start : start + QUOTED_BYTES] for start in range(last + 1)}
    is_quoted = any(run in secret for secret in map(_normalise, secrets) for run in runs)
    return "…" if is_quoted else text


def _normalise(text: str) -> bytes:
    r"""Returns the letters and digits of `text`, in lower case, as UTF-8.

    JSON's escapes, such as \u00e9, are decoded first.
    """
    text = _ESCAPE.sub(lambda escape: chr(int(escape.group(1), 16)), text)
    kept = (character for character in text.casefold() if character.isalnum())
    return "".join(kept).encode(errors="replace")
