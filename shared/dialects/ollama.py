"""Defines the dialect of Ollama's native chat API, without streaming.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from collections.abc import Mapping
from typing import Any

from shared.dialects.dialect import Answer, Codec, Dialect, ErrorInBody, NoAnswer, Unfinished
from shared.dialects.reason import reason
from shared.dialects.values import record, text_of, tokens, word


def _translate(model: str, chat: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": model,
        "messages": chat["messages"],
        "stream": False,
        "options": {"temperature": chat["temperature"], "num_predict": chat["max_tokens"]},
    }


def _decode(reply: Any) -> Answer:  # noqa: ANN401 — JSON
    reply = record(reply)
    if error := reason(reply.get("error")):
        raise ErrorInBody(500, error)
    message, finish_reason = reply.get("message"), word(reply.get("done_reason"))
    if finish_reason in {"load", "unload"}:
        raise Unfinished(f"done_reason: {finish_reason}")
    if reply.get("done") is False:
        raise Unfinished("done: false")
    if not isinstance(message, dict | str):
        raise NoAnswer
    prompt_tokens = tokens(reply.get("prompt_eval_count"))  # absent if the prompt was cached
    completion_tokens = tokens(reply.get("eval_count"))
    return Answer(
        content=text_of(record(message).get("content", message)),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        finish_reason=finish_reason,
    )


OLLAMA = Dialect(Codec("/api/chat", _decode, _translate), {})
