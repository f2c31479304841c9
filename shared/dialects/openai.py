"""Defines the dialect of OpenAI's API, with OpenRouter's additional fields and errors.

https://platform.openai.com/docs/api-reference/chat
https://openrouter.ai/docs/api-reference/overview · https://openrouter.ai/docs/api-reference/errors
https://openrouter.ai/docs/use-cases/usage-accounting
"""

import re
from typing import Any

import httpx

from shared.dialects.dialect import Answer, Codec, Dialect, ErrorInBody, Operation, tokens, usd


def _decode(reply: Any) -> Answer:  # noqa: ANN401 — JSON
    choices = reply.get("choices") or []
    choice = choices[0] if choices else None
    error = reply.get("error") or (choice or {}).get("error")
    if error:
        raise ErrorInBody(_status(error.get("code")), error.get("message") or "")
    message = choice and choice.get("message")
    if not message:
        raise ValueError("no choices")
    usage = reply.get("usage") or {}
    prompt, completion = tokens(usage.get("prompt_tokens")), tokens(usage.get("completion_tokens"))
    return Answer(
        content=message.get("content") or "",
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=tokens(usage.get("total_tokens")) or prompt + completion,
        finish_reason=choice.get("finish_reason"),
        cost_usd=usd(usage.get("cost")),
    )


def _status(code: object) -> int:
    """Returns `code` as an HTTP error status, or 502 if it is a vendor's code."""
    text = str(code)
    return int(text) if re.fullmatch(r"[45][0-9]{2}", text) else httpx.codes.BAD_GATEWAY


CHAT = Codec("/chat/completions", _decode)
OPENAI = Dialect(CHAT, {Operation.CHAT: CHAT})
