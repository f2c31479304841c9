"""Defines the provider's side of each dialect: the path, the answers and the errors."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator

from cli.simulator.chat import Chat
from cli.simulator.faults import Fault

TOKENS_PER_USD = 1_000_000  # number of tokens that cost one US dollar in the openai dialect
_HUGE_CHARACTERS = 10_000_000


@dataclass(frozen=True, slots=True)
class SimulatedDialect:
    """Describes how a provider answers in one dialect.

    `completion` returns the body of a response with status 200. Its arguments are the request, a
    fault that changes the body, and the latency of the call in milliseconds. `error_body` returns
    the body of an error response, from a status and a message.
    """

    path: str  # end of the path of a chat request
    completion: Callable[[Chat, Fault | None, float], bytes]
    error_body: Callable[[int, str], bytes]
    checks_key: bool  # whether a call needs the key that the behaviour expects
    streams_by_default: bool
    model_not_found: str = "Not Found"  # the message of a 404; {model} stands for the model


def _content(chat: Chat, fault: Fault | None) -> str:
    return "x" * _HUGE_CHARACTERS if fault is Fault.HUGE else f"echo: {chat.text}"


def _message(content: str, fault: Fault | None) -> dict[str, str | None]:
    return {"role": "assistant", "content": None if fault is Fault.NULL_CONTENT else content}


def _openai_completion(chat: Chat, fault: Fault | None, _latency_ms: float) -> bytes:
    content = _content(chat, fault)
    words, now = len(content.split()), int(time.time())
    choice = {
        "index": 0,
        "message": _message(content, fault),
        "finish_reason": "stop",
        "logprobs": None,
    }
    body: dict[str, Any] = {
        "id": f"gen-{now}-{chat.item}",
        "object": "chat.completion",
        "created": now,
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


def _openai_error(status: int, message: str) -> bytes:
    return orjson.dumps({"error": {"code": status, "message": message}})


def _ollama_completion(chat: Chat, fault: Fault | None, latency_ms: float) -> bytes:
    content = _content(chat, fault)
    latency_ns = int(latency_ms * 1e6)
    body: dict[str, Any] = {
        "model": chat.model,
        "created_at": datetime.now(UTC),
        "done": True,
        "done_reason": "stop",
        "total_duration": latency_ns,
        "load_duration": 0,
    }
    if fault is not Fault.EMPTY_CHOICES:
        body["message"] = _message(content, fault)
    if fault is not Fault.NO_USAGE:
        body |= {"prompt_eval_count": chat.words, "prompt_eval_duration": 0}
        body |= {"eval_count": len(content.split()), "eval_duration": latency_ns}
    return orjson.dumps(body, option=orjson.OPT_UTC_Z)


def _ollama_error(_status: int, message: str) -> bytes:
    return orjson.dumps({"error": message})


# The keys are the names that the rows in shared/providers/ use.
DIALECTS = {
    "openai": SimulatedDialect(
        "/chat/completions",
        _openai_completion,
        _openai_error,
        checks_key=True,
        streams_by_default=False,
    ),
    "ollama": SimulatedDialect(
        "/api/chat",
        _ollama_completion,
        _ollama_error,
        checks_key=False,
        streams_by_default=True,
        model_not_found='model "{model}" not found, try pulling it first',
    ),
}


def _known_dialect(name: str) -> str:
    if name not in DIALECTS:
        raise ValueError(f"must be one of {', '.join(DIALECTS)}")
    return name


DialectName = Annotated[str, AfterValidator(_known_dialect)]
