"""Answers as Anthropic's Messages API does."""

from typing import Any

import orjson

from cli.simulator.chat import Chat, chat_of, text_of
from cli.simulator.dialect import SimulatedDialect, content_of
from cli.simulator.faults import SimulatedFault

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def _read(document: dict[str, Any], _path: str) -> Chat:
    if not isinstance(document["max_tokens"], int):
        raise TypeError("max_tokens must be an integer")
    texts = [text_of(message["content"]) for message in document["messages"]]
    return chat_of(document, document["model"], [text_of(document.get("system")), *texts])


def _completion(chat: Chat, fault: SimulatedFault | None, _latency_ms: float) -> bytes:
    text = content_of(chat, fault)
    content: list[dict[str, Any]] = [] if text is None else [{"type": "text", "text": text}]
    if chat.call:
        content = [
            {
                "type": "tool_use",
                "id": f"toolu_{chat.item}",
                "name": chat.call.name,
                "input": chat.call.arguments,
            }
        ]
    body: dict[str, Any] = {
        "id": f"msg_{chat.item}",
        "type": "message",
        "role": "assistant",
        "model": chat.model,
        "content": None if fault is SimulatedFault.EMPTY_CHOICES else content,
        "stop_reason": "tool_use" if chat.call else "end_turn",
        "stop_sequence": None,
    }
    if fault is not SimulatedFault.NO_USAGE:
        body["usage"] = {"input_tokens": chat.prompt_tokens, "output_tokens": chat.answer_tokens}
    return orjson.dumps(body)


def _error(status: int, message: str) -> bytes:
    kind = _ERROR_TYPES.get(status, "api_error")
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})


MESSAGES = SimulatedDialect(
    "/v1/messages",
    _read,
    _completion,
    _error,
    key_header="x-api-key",
    model_not_found="model: {model}",
)
