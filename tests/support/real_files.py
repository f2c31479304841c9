"""Finds files of requests of other projects, where such files are beside the repository."""

import json
import re
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"


def requests_of(path: Path) -> list[Any]:
    """Returns the JSON objects in a file, which may be pretty-printed."""
    decoder, text, position, found = json.JSONDecoder(), path.read_text().strip(), 0, []
    while position < len(text):
        value, position = decoder.raw_decode(text, position)
        found.append(value)
        position += len(text[position:]) - len(text[position:].lstrip())
    return found


def is_batch(request: Any) -> bool:
    endings = ("chat/completions", "embeddings", "responses")
    return "body" in request and str(request.get("url")).endswith(endings)


def is_body(request: Any) -> bool:
    """Returns whether `request` is a bare body for OpenAI's API, not a line of a batch file."""
    if not isinstance(request, dict) or "model" not in request:
        return False
    return "messages" in request or "input" in request


OTHER_APIS = re.compile(r"\d+-(anthropic|ollama-(?!openai))")
REAL_FILES = [
    path
    for path in sorted(CORPUS.glob("*.json*"))
    if is_batch(first := requests_of(path)[0])
    or (is_body(first) and not OTHER_APIS.match(path.name))
]
