"""Error texts of providers without what they quote: keys and prompts."""

import re
from collections.abc import Iterable

MAX_TEXT = 300
QUOTED_WORDS = 4  # so many words of a prompt in a row are a quotation, fewer are everyday language

_WORD = re.compile(r"\w+")


def without(secrets: Iterable[str], text: str) -> str:
    """Quotations are taken out whole, and also in part, in other spacing or with escapes."""
    secrets = sorted(filter(None, secrets), key=len, reverse=True)
    text = text[: 10 * MAX_TEXT]
    for secret in secrets:
        text = text.replace(secret, "…")
    quotable = {run for secret in secrets for run in _runs(_WORD.findall(secret))}
    words = list(_WORD.finditer(text))
    quoted = [
        (words[index].start(), words[index + QUOTED_WORDS - 1].end())
        for index, run in enumerate(_runs([word.group() for word in words]))
        if run in quotable
    ]
    kept, position = "", 0
    for start, end in quoted:
        if start > position:
            kept += text[position:start] + "…"
        position = end
    text = kept + text[position:]
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def _runs(words: list[str]) -> list[tuple[str, ...]]:
    return list(zip(*(words[offset:] for offset in range(QUOTED_WORDS)), strict=False))
