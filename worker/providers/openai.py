"""Defines the dialect of OpenAI's chat completions, with OpenRouter's additional fields and errors.

https://openrouter.ai/docs/api-reference/overview · https://openrouter.ai/docs/api-reference/errors
https://openrouter.ai/docs/use-cases/usage-accounting
"""

import re
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from shared.models import ChatRequest
from worker.providers.dialect import Completion, Dialect, ErrorInBody, Tokens, Usd


class _Error(BaseModel):
    code: int | str | None = None
    message: str | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message | None = None
    finish_reason: str | None = None
    error: _Error | None = None


class _Usage(BaseModel):
    prompt_tokens: Tokens = None
    completion_tokens: Tokens = None
    total_tokens: Tokens = None
    cost: Usd = None  # cost in OpenRouter's credits, which are US dollars


class _Reply(BaseModel):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: _Error | None = None


def _encode(chat: ChatRequest) -> dict[str, Any]:
    return {
        "model": chat["model"],
        "messages": chat["messages"],
        "temperature": chat["temperature"],
        "max_tokens": chat["max_tokens"],
    }


def _decode(body: bytes) -> Completion:
    reply = _Reply.model_validate_json(body)
    choice = reply.choices[0] if reply.choices else None
    error = reply.error or (choice.error if choice else None)
    if error:
        raise ErrorInBody(_status(error.code), error.message or "")
    if choice is None or choice.message is None:
        raise ValueError("no choices")
    usage = reply.usage or _Usage()
    prompt_tokens, completion_tokens = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return Completion(
        content=choice.message.content or "",  # a tool call and an empty answer have null
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=usage.total_tokens or prompt_tokens + completion_tokens,
        finish_reason=choice.finish_reason,
        cost_usd=usage.cost,
    )


def _status(code: int | str | None) -> int:
    """Returns `code` as an HTTP error status, or 502 if it is a vendor's code."""
    text = str(code)
    return int(text) if re.fullmatch(r"[45][0-9]{2}", text) else httpx.codes.BAD_GATEWAY


def _error_text(body: bytes) -> str | None:
    try:
        error = _Reply.model_validate_json(body).error
    except ValidationError:
        return None
    return error.message if error else None


OPENAI = Dialect("/chat/completions", _encode, _decode, _error_text)
