"""Defines the dialect of Ollama's native chat API, without streaming.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from typing import Any

from pydantic import BaseModel, ValidationError

from shared.models import ChatRequest
from worker.providers.dialect import Completion, Dialect, ErrorInBody, Tokens


class _Message(BaseModel):
    content: str | None = None


class _Reply(BaseModel):
    message: _Message | None = None
    done_reason: str | None = None
    prompt_eval_count: Tokens = None  # Ollama omits the field if the prompt was cached
    eval_count: Tokens = None
    error: str | None = None


def _encode(chat: ChatRequest) -> dict[str, Any]:
    return {
        "model": chat["model"],
        "messages": chat["messages"],
        "stream": False,
        "options": {"temperature": chat["temperature"], "num_predict": chat["max_tokens"]},
    }


def _decode(body: bytes) -> Completion:
    reply = _Reply.model_validate_json(body)
    if reply.error is not None:
        raise ErrorInBody(500, reply.error)
    if reply.message is None:
        raise ValueError("no message")
    prompt_tokens, completion_tokens = reply.prompt_eval_count or 0, reply.eval_count or 0
    return Completion(
        content=reply.message.content or "",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        finish_reason=reply.done_reason,
    )


def _error_text(body: bytes) -> str | None:
    try:
        return _Reply.model_validate_json(body).error
    except ValidationError:
        return None


OLLAMA = Dialect("/api/chat", _encode, _decode, _error_text)
