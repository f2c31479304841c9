"""Adds the fields that OpenAI's clients need to an answer, if the provider has left them out."""

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
    """Returns the provider's body. It is unchanged if it has the fields that clients need."""
    text = (answer.body or "{}").encode()
    try:
        body: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:  # a number that only the client can read
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
