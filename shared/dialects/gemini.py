"""Defines the dialect of Google's Gemini API: generateContent, and the interface that is compatible
with OpenAI's.

https://ai.google.dev/api/generate-content · https://ai.google.dev/gemini-api/docs/openai

Both interfaces have the same base URL, which ends in `/v1beta`. generateContent takes the key in
the header `x-goog-api-key`, the other interface in `Authorization`.
"""

from dataclasses import replace
from typing import Any
from urllib.parse import quote

from shared.dialects.dialect import Answer, Codec, Dialect, NoAnswer, Operation
from shared.dialects.error_in_body import raise_error
from shared.dialects.openai import CHAT, decode_embeddings
from shared.dialects.values import record, records, tokens, word


def _resource(model: str) -> str:
    """Returns the path of a model, such as `models/gemini-3-flash`."""
    kind, _, name = model.partition("/")
    if kind not in _KINDS:
        kind, name = "models", model
    return f"{kind}/{quote(name, safe='')}"


_KINDS = ("models", "tunedModels")


def _decode(reply: Any) -> Answer:  # noqa: ANN401 — JSON
    reply = record(reply)
    raise_error(reply.get("error"))
    candidates = records(reply.get("candidates"))
    blocked = word(record(reply.get("promptFeedback")).get("blockReason"))
    if not candidates and blocked is None:
        raise NoAnswer
    candidate = candidates[0] if candidates else {}
    usage = record(reply.get("usageMetadata"))
    prompt = tokens(usage.get("promptTokenCount"))
    completion = tokens(usage.get("candidatesTokenCount")) + tokens(usage.get("thoughtsTokenCount"))
    return Answer(
        content=_text(candidate),
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=tokens(usage.get("totalTokenCount")) or prompt + completion,
        finish_reason=word(candidate.get("finishReason")) or blocked,
        usage=usage or None,
    )


def _text(candidate: dict[str, Any]) -> str:
    parts = records(record(candidate.get("content")).get("parts"))
    texts = (part.get("text") for part in parts if not part.get("thought"))
    return "".join(text for text in texts if isinstance(text, str))


_CHAT = replace(CHAT, path="/openai/chat/completions", auth="bearer")
GEMINI = Dialect(
    _CHAT,
    {
        Operation.CHAT: _CHAT,
        Operation.EMBEDDINGS: Codec("/openai/embeddings", decode_embeddings, auth="bearer"),
        Operation.GENERATE_CONTENT: Codec(
            "/{model}:generateContent", _decode, model_path=_resource, auth="x-goog-api-key"
        ),
    },
)
