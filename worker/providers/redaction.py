"""Removes keys and prompts from the error texts of providers, which often quote them."""

import re
from collections.abc import Iterable

MAX_TEXT = 300  # characters
# A secret is recognised by this many bytes of letters and digits in a row, as UTF-8: about two
# words, or four Chinese characters.
QUOTED_BYTES = 12
MAX_COMPARED = 200_000  # characters of secrets; with more, the whole text is left out

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def redact(secrets: Iterable[str], text: str) -> str:
    """Returns `text`, shortened, with "…" for each secret that it quotes word for word.

    If it still contains a part of a secret then, in any case, spacing or escapes, only "…" is left.
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
    """Returns the letters and digits only, in one case and without JSON's escapes."""
    text = _ESCAPE.sub(lambda escape: chr(int(escape.group(1), 16)), text)
    kept = (character for character in text.casefold() if character.isalnum())
    return "".join(kept).encode(errors="replace")
