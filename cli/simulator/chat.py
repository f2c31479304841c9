"""Reads the parts of a request that the simulator needs."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The tool call that a message asks for: `call weather {"city":"Oslo"}`."""

    name: str
    arguments: dict[str, Any]

    @property
    def arguments_json(self) -> str:
        return orjson.dumps(self.arguments).decode()


@dataclass(frozen=True, slots=True)
class Chat:
    model: str = ""
    text: str = ""  # text of the last message
    words: int = 0  # number of words in all messages
    call: ToolCall | None = None
    choices: int = 1
    inputs: int = 1  # number of inputs of a request for embeddings
    as_base64: bool = False  # whether embeddings are encoded in base64

    @property
    def item(self) -> str:
        return item_of(self.text)


def item_of(text: str) -> str:
    """Returns the name of an item: calls with the same last message belong to the same item."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def chat_of(document: dict[str, Any], model: Any, texts: list[str]) -> Chat:  # noqa: ANN401 — JSON
    """Returns the chat of a body with these texts. Raises LookupError if there is no text."""
    return Chat(str(model), texts[-1], count_words(texts), _tool_call(document, texts[-1]))


def count_words(texts: Iterable[str]) -> int:
    return sum(len(text.split()) for text in texts)


def text_of(content: str | list[Any] | None, part: str = "text") -> str:
    """Returns the text of a content. `part` is the name of the field with a part's text."""
    if isinstance(content, str):
        return content
    return "".join(item if isinstance(item, str) else item.get(part, "") for item in content or ())


def _tool_call(document: dict[str, Any], text: str) -> ToolCall | None:
    """Returns the tool call that the text asks for, if the request has tools."""
    if not document.get("tools") or not text.startswith("call "):
        return None
    name, _, arguments = text.removeprefix("call ").partition(" ")
    try:
        parsed = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return None
    return ToolCall(name, parsed) if isinstance(parsed, dict) else None
