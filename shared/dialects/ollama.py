"""Defines the dialect of Ollama: its native chat API without streaming, and the interface that is
compatible with OpenAI's.

https://github.com/ollama/ollama/blob/main/docs/api.md
https://github.com/ollama/ollama/blob/main/docs/openai.md
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from shared.dialects.chat_request import (
    Fields,
    File,
    Text,
    json_schema,
    messages_of,
    only,
    parts_of,
    stops,
    token_limit,
    tool_calls_of,
)
from shared.dialects.dialect import (
    Answer,
    Codec,
    Dialect,
    ErrorInBody,
    NoAnswer,
    Operation,
    Unfinished,
    Untranslatable,
)
from shared.dialects.openai import CHAT, RESPONSES, decode_embeddings
from shared.dialects.refusal_reason import reason
from shared.dialects.values import record, records, text_of, tokens, word

# Options of a model, by their names in a chat request. OpenAI has only the first five.
_OPTIONS = {
    name: name
    for name in (
        "temperature",
        "top_p",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "top_k",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "repeat_last_n",
        "num_ctx",
        "num_predict",
        "num_keep",
    )
}
_OWN = {name: name for name in ("think", "format", "keep_alive", "logprobs", "top_logprobs")}
_EFFORTS = {"none": False, "low": "low", "medium": "medium", "high": "high"}
_USAGE = (
    "prompt_eval_count",
    "eval_count",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
)
_SERVER_ERROR = 500


def _translate(model: str, chat: Mapping[str, Any]) -> dict[str, Any]:
    fields = Fields(chat, "Ollama")
    body: dict[str, Any] = {"model": model, "messages": _messages(fields), "stream": False}
    tools, choice = fields.take_list("tools"), fields.take("tool_choice")
    if choice not in (None, "none"):
        raise Untranslatable("tool_choice", "Ollama cannot force a tool call: use auto or none")
    if tools and choice != "none":
        body["tools"] = tools
    if (schema := json_schema(fields)) is not None:
        body["format"] = schema
    if effort := fields.take_one_of("reasoning_effort", _EFFORTS):
        body["think"] = _EFFORTS[effort]
    body |= fields.take_all(_OWN)
    options = fields.take_all(_OPTIONS)
    if (limit := token_limit(fields)) is not None:
        options["num_predict"] = limit
    if stop := stops(fields):
        options["stop"] = stop
    options |= record(fields.take("options"))
    fields.refuse_rest()
    return body | {"options": options} if options else body


def _messages(fields: Fields) -> list[dict[str, Any]]:
    called: dict[str, str] = {}  # names of tools by the ids of their calls
    return [_message(path, message, called) for path, message in messages_of(fields)]


def _message(path: str, message: dict[str, Any], called: dict[str, str]) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role in _ROLES and isinstance(content, str) and len(message) == len(_PLAIN):
        return message  # the usual case: a role and a text
    translated: dict[str, Any] = {"role": "system" if role == "developer" else role}
    match role:
        case "system" | "developer" | "user":
            only(path, message, "role", "content")
        case "assistant":
            only(path, message, "role", "content", "refusal", "tool_calls", "reasoning", *_THOUGHTS)
            calls = list(tool_calls_of(path, message))
            called |= {call.id: call.name for call in calls}
            content = content or message.get("refusal")
            if thinking := next(filter(None, map(message.get, _THOUGHTS)), None):
                translated["thinking"] = thinking
            if calls:
                translated["tool_calls"] = [
                    {"id": c.id, "function": {"name": c.name, "arguments": c.arguments}}
                    for c in calls
                ]
        case "tool":
            only(path, message, "role", "content", "tool_call_id", "name")
            call_id = str(message.get("tool_call_id", ""))
            translated["tool_call_id"] = call_id
            if name := message.get("name") or called.get(call_id):
                translated["tool_name"] = name
        case _:
            raise Untranslatable(f"{path}.role", f"Ollama has no role {role}")
    if isinstance(content, str):
        return translated | {"content": content}
    return translated | _content(path, parts_of(path, content))


_ROLES = frozenset({"system", "user", "assistant"})
_PLAIN = ("role", "content")
_THOUGHTS = ("reasoning", "reasoning_content")  # names that providers use for thoughts


def _content(path: str, parts: Iterable[Text | File]) -> dict[str, Any]:
    texts, images = [], []
    for index, part in enumerate(parts):
        match part:
            case Text(text):
                texts.append(text)
            case File("image", data=data) if data:
                images.append(data)
            case _:
                raise Untranslatable(
                    f"{path}.content[{index}]",
                    "Ollama takes only text and images, and an image must be a data: URL",
                )
    content: dict[str, Any] = {"content": "\n".join(texts)}
    return content | {"images": images} if images else content


def _decode(reply: Any) -> Answer:  # noqa: ANN401 — JSON
    reply = record(reply)
    if reply.get("error") and reason(reply["error"]):
        raise ErrorInBody(_SERVER_ERROR, reply["error"])
    done_reason = word(reply.get("done_reason"))
    if done_reason in {
        "load",
        "unload",
    }:  # a request without messages only loads or unloads the model
        raise Unfinished(f"done_reason: {done_reason}")
    if reply.get("done") is False:
        raise Unfinished("done: false")
    message = reply.get("message")
    if not isinstance(message, dict | str):
        raise NoAnswer
    content = text_of(message if isinstance(message, str) else message.get("content"))
    more = _more(record(message))
    if "tool_calls" in more and done_reason == "stop":
        done_reason = "tool_calls"
    logprobs = reply.get("logprobs")
    prompt = tokens(reply.get("prompt_eval_count"))  # absent if the prompt was cached
    completion = tokens(reply.get("eval_count"))
    return Answer(
        content=content,
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        finish_reason=done_reason,
        message={"role": "assistant", "content": content, **more} if more else None,
        logprobs={"content": logprobs} if logprobs else None,
        usage={name: reply[name] for name in _USAGE if name in reply} or None,
    )


def _more(message: dict[str, Any]) -> dict[str, Any]:
    """Returns the thoughts and the tool calls of a message, as in a chat completion."""
    more: dict[str, Any] = {}
    if thinking := message.get("thinking"):
        more["reasoning"] = thinking
    if calls := _tool_calls(message):
        more["tool_calls"] = calls
    return more


def _tool_calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    if not message.get("tool_calls"):
        return []
    return [
        {
            "id": call.get("id") or f"call_{index}",  # older versions of Ollama send no id
            "type": "function",
            "function": {
                "name": function.get("name"),
                "arguments": orjson.dumps(function.get("arguments") or {}).decode(),
            },
        }
        for index, call in enumerate(records(message.get("tool_calls")))
        if (function := record(call.get("function")))
    ]


OLLAMA = Dialect(
    Codec("/api/chat", _decode, _translate, takes_plain=True),
    {
        Operation.CHAT: replace(CHAT, path="/v1/chat/completions"),
        Operation.RESPONSES: replace(RESPONSES, path="/v1/responses"),
        Operation.EMBEDDINGS: Codec("/v1/embeddings", decode_embeddings),
    },
    "/api/tags",
)
