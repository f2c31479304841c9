"""Answers as Gemini's generateContent does."""

from typing import Any
from urllib.parse import unquote

import orjson

from cli.simulator.chat import Chat, chat_of, text_of
from cli.simulator.dialect import SimulatedDialect, content_of
from cli.simulator.faults import SimulatedFault

_PATH = ":generateContent"


def _read(document: dict[str, Any], path: str) -> Chat:
    texts = [text_of(content["parts"]) for content in document["contents"]]
    model = unquote(path.removesuffix(_PATH).rpartition("/models/")[2])
    return chat_of(document, model, texts)


def _completion(chat: Chat, fault: SimulatedFault | None, _latency_ms: float) -> bytes:
    part: dict[str, Any] = {"text": content_of(chat, fault) or ""}
    if chat.call:
        part = {"functionCall": {"name": chat.call.name, "args": chat.call.arguments}}
    candidate = {
        "content": {"role": "model", "parts": [part]},
        "finishReason": "STOP",
        "index": 0,
    }
    body: dict[str, Any] = {
        "candidates": [] if fault is SimulatedFault.EMPTY_CHOICES else [candidate],
        "modelVersion": chat.model,
        "responseId": chat.item,
    }
    if fault is not SimulatedFault.NO_USAGE:
        prompt, answer = chat.prompt_tokens, chat.answer_tokens
        body["usageMetadata"] = {
            "promptTokenCount": prompt,
            "candidatesTokenCount": answer,
            "totalTokenCount": prompt + answer,
        }
    return orjson.dumps(body)


def _error(status: int, message: str) -> bytes:
    return orjson.dumps({"error": {"code": status, "message": message, "status": "ERROR"}})


GENERATE_CONTENT = SimulatedDialect(
    _PATH,
    _read,
    _completion,
    _error,
    key_header="x-goog-api-key",
    model_not_found="models/{model} is not found for API version v1beta",
)
