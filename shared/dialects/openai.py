"""Defines the dialect of OpenAI's API, with OpenRouter's additional fields and errors.

https://platform.openai.com/docs/api-reference/chat
https://openrouter.ai/docs/api-reference/overview · https://openrouter.ai/docs/api-reference/errors
https://openrouter.ai/docs/use-cases/usage-accounting
"""

import re
from typing import Any

from shared.dialects.dialect import (
    Answer,
    Codec,
    Dialect,
    ErrorInBody,
    NoAnswer,
    Operation,
    Unfinished,
)
from shared.dialects.reason import reason
from shared.dialects.values import record, records, text_of, tokens, usd, word


def decode_chat(reply: Any) -> Answer:  # noqa: ANN401 — JSON
    """Returns the answer of a chat completion: see `Codec.decode`."""
    reply = record(reply)
    raise_error(reply.get("error"))
    choices = [choice for choice in records(reply.get("choices")) if _has_message(choice)]
    if not choices:
        raise_error(*(choice.get("error") for choice in records(reply.get("choices"))))
        raise NoAnswer
    choice = choices[0] if len(choices) == 1 else next(filter(_has_content, choices), choices[0])
    raise_error(choice.get("error"))
    finish_reason = word(choice.get("finish_reason"))
    if finish_reason == "error":
        raise Unfinished("finish_reason: error")
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else message
    usage = record(reply.get("usage"))
    prompt, completion = tokens(usage.get("prompt_tokens")), tokens(usage.get("completion_tokens"))
    return Answer(
        content=text_of(content),
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=tokens(usage.get("total_tokens")) or prompt + completion,
        finish_reason=finish_reason,
        cost_usd=usd(usage.get("cost")),
        message=message if isinstance(message, dict) and _has_more(message) else None,
        choices=reply["choices"] if len(choices) > 1 else None,
        logprobs=choice.get("logprobs") or None,
        usage=usage or None,
    )


def _has_message(choice: dict[str, Any]) -> bool:
    return isinstance(choice.get("message"), dict | str)


def _has_content(choice: dict[str, Any]) -> bool:
    """Returns whether a choice is an answer: a text, a tool call, a refusal, …"""
    if choice.get("error") or word(choice.get("finish_reason")) == "error":
        return False
    message = choice["message"]
    return bool(message) and (isinstance(message, str) or any(_fields(message)))


def _fields(message: dict[str, Any]) -> list[Any]:
    return [value for name, value in message.items() if name != "role"]


def _has_more(message: dict[str, Any]) -> bool:
    """Returns whether a message has more than a role and a text."""
    for name, value in message.items():
        if value and name != "role" and (name != "content" or not isinstance(value, str)):
            return True
    return False


def raise_error(*errors: object) -> None:
    """Raises ErrorInBody for the first error that says anything. `{}`, `false` and "" do not."""
    for error in errors:
        if isinstance(error, dict):
            if any(error.values()):
                raise ErrorInBody(_status(error.get("code")), reason(error))
        elif error and isinstance(error, str | list):
            raise ErrorInBody(BAD_GATEWAY, reason(error))


BAD_GATEWAY = 502


def _status(code: object) -> int:
    """Returns `code` as an HTTP error status, or 502 if it is a vendor's code."""
    text = str(code)
    return int(text) if re.fullmatch(r"[45][0-9]{2}", text) else BAD_GATEWAY


CHAT = Codec("/chat/completions", decode_chat)
OPENAI = Dialect(CHAT, {Operation.CHAT: CHAT})
