"""Defines the dialect of Ollama's native chat API, without streaming.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from collections.abc import Mapping
from typing import Any

from shared.dialects.dialect import Answer, Codec, Dialect, ErrorInBody, tokens


def _translate(model: str, chat: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": model,
        "messages": chat["messages"],
        "stream": False,
        "options": {"temperature": chat["temperature"], "num_predict": chat["max_tokens"]},
    }


def _decode(reply: Any) -> Answer:  # noqa: ANN401 — JSON
    if reply.get("error") is not None:
        raise ErrorInBody(500, str(reply["error"]))
    message = reply.get("message")
    if message is None:
        raise ValueError("no message")
    prompt_tokens = tokens(reply.get("prompt_eval_count"))  # absent if the prompt was cached
    completion_tokens = tokens(reply.get("eval_count"))
    return Answer(
        content=message.get("content") or "",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        finish_reason=reply.get("done_reason"),
    )


OLLAMA = Dialect(Codec("/api/chat", _decode, _translate), {})
