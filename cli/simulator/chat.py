"""Reads the parts of a request that the simulator needs."""

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from cli.simulator.tokens import TokenCounter, count_words

_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class SimulatedToolCall:
    """Describes the tool call that a message asks for: `call weather {"city":"Oslo"}`."""

    name: str
    arguments: dict[str, Any]

    @property
    def arguments_json(self) -> str:
        return orjson.dumps(self.arguments).decode()


@dataclass(frozen=True, slots=True)
class Chat:
    model: str = ""
    texts: tuple[str, ...] = ("",)  # texts of all messages
    call: SimulatedToolCall | None = None
    choices: int = 1
    inputs: int = 1  # number of inputs of a request for embeddings
    as_base64: bool = False  # whether embeddings are encoded in base64
    is_stream: bool = False
    stream_usage: bool = False  # whether the stream has a chunk with the usage
    max_tokens: int = 0  # limit of the answer's tokens; 0: no limit
    count_tokens: TokenCounter = count_words

    @property
    def text(self) -> str:
        return self.texts[-1]

    @property
    def prompt_tokens(self) -> int:
        return sum(map(self.count_tokens, self.texts))

    @property
    def answer_tokens(self) -> int:
        return self.count_tokens(f"echo: {self.text}")

    @property
    def item(self) -> str:
        return item_of(self.text)


def item_of(text: str) -> str:
    """Returns the name of an item: calls with the same last message belong to the same item."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def chat_of(document: dict[str, Any], model: Any, texts: list[str]) -> Chat:  # noqa: ANN401 — JSON
    """Returns the chat of a request. Raises LookupError if `texts` is empty.

    document: the parsed body. texts: the texts of its messages.
    """
    call = _tool_call(document, texts[-1])
    return Chat(str(model), tuple(texts), call, max_tokens=_output_limit(document))


def _output_limit(document: dict[str, Any]) -> int:
    limits = [document.get(name) for name in _OUTPUT_LIMITS]
    limits.append((document.get("options") or {}).get("num_predict"))
    limits.append((document.get("generationConfig") or {}).get("maxOutputTokens"))
    return max((limit for limit in limits if isinstance(limit, int)), default=0)


def text_of(content: str | list[Any] | None, part: str = "text") -> str:
    """Returns the text of a message's content: a string, a list of parts, or None (no text).

    part: name of the field with the text of a part.
    """
    if isinstance(content, str):
        return content
    return "".join(item if isinstance(item, str) else item.get(part, "") for item in content or ())


def _tool_call(document: dict[str, Any], text: str) -> SimulatedToolCall | None:
    """Returns the tool call that the text asks for; None without one, or if there are no tools."""
    if not document.get("tools") or not text.startswith("call "):
        return None
    name, _, arguments = text.removeprefix("call ").partition(" ")
    try:
        parsed = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return None
    return SimulatedToolCall(name, parsed) if isinstance(parsed, dict) else None
