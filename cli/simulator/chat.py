"""Reads the parts of a chat request that the simulator needs."""

import hashlib
from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Chat:
    model: str = ""
    text: str = ""  # text of the last message
    words: int = 0  # number of words in all messages

    @property
    def item(self) -> str:
        return item_of(self.text)


def item_of(text: str) -> str:
    """Returns the name of an item: calls with the same last message belong to the same item."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_chat(body: bytes, *, streams_by_default: bool) -> Chat:
    """Returns the chat in the body of a request.

    `streams_by_default` says whether a body without `stream` asks for a stream. Raises ValueError
    with the reason if a provider would refuse the request.
    """
    try:
        document = orjson.loads(body)
        texts = [_text(message["content"]) for message in document["messages"]]
        model, last = str(document["model"]), texts[-1]
        stream = document.get("stream", streams_by_default)
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("the body must be a JSON object with model and messages") from error
    if stream is not False:
        raise ValueError("stream must be false: the simulator does not stream")
    return Chat(model, last, sum(len(text.split()) for text in texts))


def _text(content: str | list[dict[str, str]] | None) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())
