"""Answers as OpenAI and OpenRouter do: chat completions, responses, embeddings."""

import base64
import dataclasses
import struct
import time
from typing import Any

import orjson

from cli.simulator.chat import Chat, chat_of, text_of
from cli.simulator.dialect import SimulatedDialect, content_of
from cli.simulator.faults import SimulatedFault
from cli.simulator.streams import chat_events, response_events

TOKENS_PER_USD = 1_000_000  # number of tokens that cost one US dollar
_DIMENSIONS = 4


def _read_chat(document: dict[str, Any], _path: str) -> Chat:
    texts = [text_of(message["content"]) for message in document["messages"]]
    chat = chat_of(document, document["model"], texts)
    return dataclasses.replace(chat, choices=document.get("n") or 1)


def _chat(chat: Chat, fault: SimulatedFault | None, _latency_ms: float) -> bytes:
    now = int(time.time())
    message: dict[str, Any] = {"role": "assistant", "content": content_of(chat, fault)}
    if chat.call:
        message["tool_calls"] = [
            {
                "id": f"call_{chat.item}",
                "type": "function",
                "function": {"name": chat.call.name, "arguments": chat.call.arguments_json},
            }
        ]
    choices = [
        {
            "index": index,
            "message": message,
            "finish_reason": "tool_calls" if chat.call else "stop",
            "logprobs": None,
        }
        for index in range(chat.choices)
    ]
    body: dict[str, Any] = {
        "id": f"gen-{now}-{chat.item}",
        "object": "chat.completion",
        "created": now,
        "model": chat.model,
        "provider": "Simulator",
        "choices": [] if fault is SimulatedFault.EMPTY_CHOICES else choices,
    }
    if fault is not SimulatedFault.NO_USAGE:
        body["usage"] = _usage(chat, "prompt_tokens", "completion_tokens")
    return orjson.dumps(body)


def _usage(chat: Chat, prompt: str, completion: str) -> dict[str, Any]:
    counts = {prompt: chat.prompt_tokens, completion: chat.answer_tokens}
    total = sum(counts.values())
    return {**counts, "total_tokens": total, "cost": total / TOKENS_PER_USD}


def _read_response(document: dict[str, Any], _path: str) -> Chat:
    given = document["input"]
    texts = [given] if isinstance(given, str) else [text_of(item["content"]) for item in given]
    return chat_of(document, document["model"], texts)


def _response(chat: Chat, fault: SimulatedFault | None, _latency_ms: float) -> bytes:
    text = {"type": "output_text", "text": content_of(chat, fault) or "", "annotations": []}
    item: dict[str, Any] = {"type": "message", "id": "msg_0", "role": "assistant"}
    item |= {"status": "completed", "content": [text]}
    if chat.call:
        item = {
            "type": "function_call",
            "id": "fc_0",
            "call_id": f"call_{chat.item}",
            "name": chat.call.name,
            "arguments": chat.call.arguments_json,
            "status": "completed",
        }
    body: dict[str, Any] = {
        "id": f"resp_{chat.item}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": chat.model,
        "output": None if fault is SimulatedFault.EMPTY_CHOICES else [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    if fault is not SimulatedFault.NO_USAGE:
        body["usage"] = _usage(chat, "input_tokens", "output_tokens") | {
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
    return orjson.dumps(body)


def _read_embeddings(document: dict[str, Any], _path: str) -> Chat:
    given = document["input"]
    inputs = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    texts = [text if isinstance(text, str) else " ".join(map(str, text)) for text in inputs]
    as_base64 = document.get("encoding_format") == "base64"
    return Chat(
        str(document["model"]),
        tuple(texts),
        inputs=len(inputs),
        as_base64=as_base64,
    )


def _embeddings(chat: Chat, fault: SimulatedFault | None, _latency_ms: float) -> bytes:
    vector = [1 / (dimension + 1) for dimension in range(_DIMENSIONS)]
    packed = base64.b64encode(struct.pack(f"<{_DIMENSIONS}f", *vector)).decode()
    embedding = packed if chat.as_base64 else vector
    count = 0 if fault is SimulatedFault.EMPTY_CHOICES else chat.inputs
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": embedding}
            for index in range(count)
        ],
        "model": chat.model,
    }
    if fault is not SimulatedFault.NO_USAGE:
        tokens = chat.prompt_tokens
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps(body)


def _error(status: int, message: str) -> bytes:
    return orjson.dumps({"error": {"code": status, "message": message}})


CHAT = SimulatedDialect("/chat/completions", _read_chat, _chat, _error, stream=chat_events)
RESPONSES = SimulatedDialect(
    "/responses",
    _read_response,
    _response,
    _error,
    stream=lambda chat: response_events(orjson.loads(_response(chat, None, 0))),
)
EMBEDDINGS = SimulatedDialect("/embeddings", _read_embeddings, _embeddings, _error)
