"""Answers as Ollama's native chat API does."""

from datetime import UTC, datetime
from typing import Any

import orjson

from cli.simulator.chat import Chat, chat_of, text_of
from cli.simulator.dialect import SimulatedDialect, content_of
from cli.simulator.faults import SimulatedFault


def _read(document: dict[str, Any], _path: str) -> Chat:
    texts = [text_of(message["content"]) for message in document["messages"]]
    return chat_of(document, document["model"], texts)


def _completion(chat: Chat, fault: SimulatedFault | None, latency_ms: float) -> bytes:
    latency_ns = int(latency_ms * 1e6)
    body: dict[str, Any] = {
        "model": chat.model,
        "created_at": datetime.now(UTC),
        "done": True,
        "done_reason": "stop",
        "total_duration": latency_ns,
        "load_duration": 0,
    }
    message: dict[str, Any] = {"role": "assistant", "content": content_of(chat, fault)}
    if chat.call:
        function = {"name": chat.call.name, "arguments": chat.call.arguments}
        message |= {"content": "", "tool_calls": [{"function": function}]}
    if fault is not SimulatedFault.EMPTY_CHOICES:
        body["message"] = message
    if fault is not SimulatedFault.NO_USAGE:
        body |= {"prompt_eval_count": chat.prompt_tokens, "prompt_eval_duration": 0}
        body |= {"eval_count": chat.answer_tokens, "eval_duration": latency_ns}
    return orjson.dumps(body, option=orjson.OPT_UTC_Z)


def _error(_status: int, message: str) -> bytes:
    return orjson.dumps({"error": message})


CHAT = SimulatedDialect(
    "/api/chat",
    _read,
    _completion,
    _error,
    key_header=None,
    streams_by_default=True,
    model_not_found='model "{model}" not found, try pulling it first',
)
