"""Adds fields that OpenAI's clients need, if the provider's answer does not have them."""

from typing import Any

import orjson

from shared.dialects.dialect import Operation
from shared.models import LLMResponse

_OBJECTS = {
    Operation.CHAT: "chat.completion",
    Operation.RESPONSES: "response",
    Operation.EMBEDDINGS: "list",
}


def answer_body(operation: Operation, answer: LLMResponse, job_id: str) -> bytes:
    """Returns the provider's body, with the fields that clients need.

    The body is unchanged if it has these fields, or if it cannot be parsed here.
    """
    text = (answer.body or "{}").encode()
    try:
        body: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:  # a number such as 1e999, which some clients can read
        return text
    needed = _needed(operation, answer, job_id)
    missing = {name: value for name, value in needed.items() if body.get(name) is None}
    return orjson.dumps({**body, **missing}) if missing else text


def _needed(operation: Operation, answer: LLMResponse, job_id: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"object": _OBJECTS[operation], "model": answer.model}
    created = int(answer.timestamp.timestamp())
    match operation:
        case Operation.CHAT:
            fields |= {"id": f"chatcmpl-{job_id}", "created": created}
        case Operation.RESPONSES:
            fields |= {"id": f"resp_{job_id}", "created_at": created}
        case _:
            fields["usage"] = {
                "prompt_tokens": answer.prompt_tokens,
                "total_tokens": answer.total_tokens,
            }
    return fields
