"""The two dialects' bodies: what is read of a request, and what an answer looks like."""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from cli.simulator.faults import Fault

Dialect = Literal["openrouter", "ollama"]
DIALECTS: tuple[Dialect, ...] = ("openrouter", "ollama")

_HUGE_CHARACTERS = 10_000_000
TOKENS_PER_USD = 1_000_000  # at OpenRouter


@dataclass(frozen=True, slots=True)
class Chat:
    """What the simulator reads of a request: the last message and the prompt's words."""

    dialect: Dialect
    model: str = ""
    text: str = ""
    words: int = 0

    @property
    def item(self) -> str:
        return item_of(self.text)


def item_of(text: str) -> str:
    """The name under which calls with this last message are counted."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_chat(dialect: Dialect, body: bytes) -> Chat:
    """ValueError, with what is wrong, for a body the provider would not take."""
    try:
        document = orjson.loads(body)
        texts = [_text(message["content"]) for message in document["messages"]]
        model, last = str(document["model"]), texts[-1]
        stream = document.get("stream", dialect == "ollama")  # Ollama's default is to stream
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("expected a JSON object with model and messages") from error
    if stream is not False:
        raise ValueError("only stream=false is simulated")
    return Chat(dialect, model, last, sum(len(text.split()) for text in texts))


def _text(content: str | list[dict[str, str]] | None) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


def completion(chat: Chat, fault: Fault | None, elapsed_ms: float) -> bytes:
    """The 200 body, less what the fault takes out of it."""
    content = "x" * _HUGE_CHARACTERS if fault is Fault.HUGE else f"echo: {chat.text}"
    words = len(content.split())
    message = {"role": "assistant", "content": None if fault is Fault.NULL_CONTENT else content}
    now = time.time()
    if chat.dialect == "openrouter":
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        body: dict[str, Any] = {
            "id": f"gen-{int(now)}-{chat.item}",
            "object": "chat.completion",
            "created": int(now),
            "model": chat.model,
            "provider": "Simulator",
            "choices": [] if fault is Fault.EMPTY_CHOICES else [choice],
        }
        if fault is not Fault.NO_USAGE:
            body["usage"] = {
                "prompt_tokens": chat.words,
                "completion_tokens": words,
                "total_tokens": chat.words + words,
                "cost": (chat.words + words) / TOKENS_PER_USD,
            }
        return orjson.dumps(body)
    body = {
        "model": chat.model,
        "created_at": datetime.fromtimestamp(now, UTC),
        "done": True,
        "done_reason": "stop",
        "total_duration": int(elapsed_ms * 1e6),
        "load_duration": 0,
    }
    if fault is not Fault.EMPTY_CHOICES:
        body["message"] = message
    if fault is not Fault.NO_USAGE:
        body |= {"prompt_eval_count": chat.words, "prompt_eval_duration": 0}
        body |= {"eval_count": words, "eval_duration": int(elapsed_ms * 1e6)}
    return orjson.dumps(body, option=orjson.OPT_UTC_Z)


def error_body(dialect: Dialect, status: int, message: str) -> bytes:
    if dialect == "ollama":
        return orjson.dumps({"error": message})
    return orjson.dumps({"error": {"code": status, "message": message}})
