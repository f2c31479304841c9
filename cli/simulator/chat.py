"""The part of a chat request that the simulator reads."""

import hashlib
from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Chat:
    model: str = ""
    text: str = ""  # the last message's
    words: int = 0  # of all messages

    @property
    def item(self) -> str:
        return item_of(self.text)


def item_of(text: str) -> str:
    """Returns the name under which calls with this last message are counted."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_chat(body: bytes, *, streams_by_default: bool) -> Chat:
    """Reads a request's body. Raises ValueError, with what is wrong, if a provider would refuse it.

    `streams_by_default` says whether a body without `stream` asks for a stream.
    """
    try:
        document = orjson.loads(body)
        texts = [_text(message["content"]) for message in document["messages"]]
        model, last = str(document["model"]), texts[-1]
        stream = document.get("stream", streams_by_default)
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("expected a JSON object with model and messages") from error
    if stream is not False:
        raise ValueError("only stream=false is simulated")
    return Chat(model, last, sum(len(text.split()) for text in texts))


def _text(content: str | list[dict[str, str]] | None) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())
