"""Error texts of providers, without the keys and prompts that they quote."""

import re
from collections.abc import Iterable

MAX_TEXT = 300
QUOTED_BYTES = 12  # letters and digits in a row, as UTF-8: two words, or four characters of Chinese
MAX_COMPARED = 200_000  # characters of secrets; with more the text is left out unseen

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def redact(secrets: Iterable[str], text: str) -> str:
    """What is quoted word for word becomes "…". If a part of a secret is left then, in whatever
    case, spacing or escapes, so does the whole text."""
    secrets = sorted(filter(None, secrets), key=len, reverse=True)
    for secret in secrets:
        text = text.replace(secret, "…")
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + "…"
    if sum(map(len, secrets)) > MAX_COMPARED:
        return "…"
    plain = _plain(text)
    runs = {plain[at : at + QUOTED_BYTES] for at in range(len(plain) - QUOTED_BYTES + 1)}
    quoted = any(run in secret for secret in map(_plain, secrets) for run in runs)
    return "…" if quoted else text


def _plain(text: str) -> bytes:
    text = _ESCAPE.sub(lambda escape: chr(int(escape.group(1), 16)), text)
    kept = (character for character in text.casefold() if character.isalnum())
    return "".join(kept).encode(errors="replace")
