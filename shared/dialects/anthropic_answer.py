"""Reads answers of Anthropic's Messages API, and translates them into chat completions.

https://platform.claude.com/docs/en/api/messages
"""

from collections.abc import Mapping
from typing import Any

import orjson

from shared.dialects.dialect import Answer, NoAnswer
from shared.dialects.error_in_body import raise_error
from shared.dialects.values import record, records, text_of, tokens, word

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def _read(reply: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # noqa: ANN401 — JSON
    reply = record(reply)
    raise_error(reply.get("error"))
    content = reply.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise NoAnswer
    return reply, records(content)


def _prompt_tokens(usage: Mapping[str, Any]) -> int:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(tokens(usage.get(name)) for name in names)


def decode_message(reply: Any) -> Answer:  # noqa: ANN401 — JSON
    message, blocks = _read(reply)
    usage = record(message.get("usage"))
    prompt, completion = _prompt_tokens(usage), tokens(usage.get("output_tokens"))
    return Answer(
        content=text_of(blocks),
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        finish_reason=word(message.get("stop_reason")),
        usage=usage or None,
    )


def to_chat(reply: Any) -> dict[str, Any]:  # noqa: ANN401 — JSON
    message, blocks = _read(reply)
    reason = word(message.get("stop_reason"))
    return {
        "id": message.get("id"),
        "object": "chat.completion",
        "model": message.get("model"),
        "choices": [
            {
                "index": 0,
                "message": _chat_message(message, blocks),
                "finish_reason": finish_reason(reason),
                "logprobs": None,
            }
        ],
        "usage": chat_usage(record(message.get("usage"))),
    }


def _chat_message(message: dict[str, Any], blocks: list[dict[str, Any]]) -> dict[str, Any]:
    translated: dict[str, Any] = {"role": "assistant", "content": text_of(blocks) or None}
    if message.get("stop_reason") == "refusal":
        translated["refusal"] = record(message.get("stop_details")).get("explanation") or "refusal"
    thoughts = [block for block in blocks if block.get("type") in _THOUGHTS]
    if thoughts:
        texts = (block.get("thinking") for block in thoughts)
        translated["reasoning"] = "".join(text for text in texts if isinstance(text, str))
        # The next request must contain these blocks: see anthropic_messages.py.
        translated["thinking_blocks"] = thoughts
    calls = [_chat_call(block) for block in blocks if block.get("type") == "tool_use"]
    return translated | {"tool_calls": calls} if calls else translated


_THOUGHTS = ("thinking", "redacted_thinking")


def _chat_call(block: dict[str, Any]) -> dict[str, Any]:
    arguments = orjson.dumps(block.get("input") or {}).decode()
    return {
        "id": block.get("id"),
        "type": "function",
        "function": {"name": block.get("name"), "arguments": arguments},
    }


def finish_reason(stop_reason: str | None) -> str | None:
    return _FINISH_REASONS.get(stop_reason or "", stop_reason)


def chat_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Returns the usage with the names of OpenAI, and with the names of Anthropic."""
    if not usage:
        return usage
    prompt, completion = _prompt_tokens(usage), tokens(usage.get("output_tokens"))
    cached = tokens(usage.get("cache_read_input_tokens"))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        **usage,
    }
