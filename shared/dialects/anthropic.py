"""Defines the dialect of Anthropic's Messages API, and the translation of chat requests into it.

https://platform.claude.com/docs/en/api/messages · version 2023-06-01 of the API, because later
versions refuse `temperature` and `top_p`.
"""

from collections.abc import Mapping
from typing import Any

from shared.dialects.anthropic_answer import decode_message, to_chat
from shared.dialects.anthropic_messages import messages
from shared.dialects.anthropic_stream import MessageStream
from shared.dialects.chat_request import Fields, json_schema, stops, token_limit
from shared.dialects.dialect import Codec, Dialect, Operation, Untranslatable
from shared.dialects.openai import decode_chat
from shared.dialects.values import record

_PATH = "/v1/messages"
_SAMPLING = {"top_p": "top_p", "top_k": "top_k"}
_OWN = {  # fields of Anthropic that OpenAI does not have
    name: name
    for name in (
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "mcp_servers",
        "speed",
        "thinking",
    )
}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_MAX_TEMPERATURE = 1  # OpenAI allows 2
# Largest `max_tokens` that a model takes, by the beginning of the model's name. The first match
# counts.
# https://platform.claude.com/docs/en/about-claude/models/overview
_MAX_TOKENS = {
    "claude-3-7": 64_000,
    "claude-3-5": 8_192,
    "claude-3-": 4_096,
    "claude-haiku-4": 64_000,
    "claude-opus-4-5": 64_000,
    "claude-opus-4-6": 128_000,
    "claude-opus-4-7": 128_000,
    "claude-opus-4-8": 128_000,
    "claude-opus-4": 32_000,
    "claude-sonnet-4-6": 128_000,
    "claude-sonnet-4": 64_000,
    "claude-fable-5": 128_000,
    "claude-haiku-5": 128_000,
    "claude-mythos-5": 128_000,
    "claude-opus-5": 128_000,
    "claude-sonnet-5": 128_000,
}
_UNKNOWN_MAX_TOKENS = 4_096


def _translate(model: str, chat: Mapping[str, Any]) -> dict[str, Any]:
    fields = Fields(chat, "Anthropic")
    system, turns = messages(fields)
    limit = token_limit(fields)
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": _max_tokens(model) if limit is None else limit,
        "messages": turns,
    }
    if system:
        body["system"] = system
    if (temperature := fields.take("temperature")) is not None:
        if not isinstance(temperature, int | float) or temperature > _MAX_TEMPERATURE:
            raise Untranslatable("temperature", "Anthropic takes numbers from 0 to 1")
        body["temperature"] = temperature
    if stop := stops(fields):
        body["stop_sequences"] = stop
    body |= fields.take_all(_SAMPLING) | _tools(fields) | _output_config(fields)
    if (user := fields.take("user") or fields.take("safety_identifier")) is not None:
        body["metadata"] = {"user_id": user}
    body |= fields.take_all(_OWN)
    fields.refuse_rest()
    return body


def _max_tokens(model: str) -> int:
    name = model.lower()
    known = (limit for prefix, limit in _MAX_TOKENS.items() if name.startswith(prefix))
    return next(known, _UNKNOWN_MAX_TOKENS)


def _output_config(fields: Fields) -> dict[str, Any]:
    config = dict(record(fields.take("output_config")))
    schema = json_schema(fields)
    if schema == "json":
        raise Untranslatable(
            "response_format",
            "Anthropic has no JSON mode without a schema: use json_schema, or ask for JSON in the"
            " prompt",
        )
    if schema is not None:
        config["format"] = {"type": "json_schema", "schema": schema}
    if effort := fields.take_one_of("reasoning_effort", _EFFORTS):
        config["effort"] = effort
    return {"output_config": config} if config else {}


def _tools(fields: Fields) -> dict[str, Any]:
    tools = [_tool(index, tool) for index, tool in enumerate(fields.take_list("tools"))]
    choice = _tool_choice(fields.take("tool_choice"))
    if fields.take("parallel_tool_calls") is False:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    if not tools:
        return {}
    return {"tools": tools} | ({"tool_choice": choice} if choice else {})


def _tool(index: int, tool: Any) -> dict[str, Any]:  # noqa: ANN401 — JSON
    function = record(record(tool).get("function"))
    if not isinstance(name := function.get("name"), str):
        raise Untranslatable(f"tools[{index}]", "must be a function with a `name`")
    translated = {
        "name": name,
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    for optional in ("description", "strict"):
        if function.get(optional) is not None:
            translated[optional] = function[optional]
    return translated


def _tool_choice(choice: Any) -> dict[str, Any] | None:  # noqa: ANN401 — JSON
    match choice:
        case None:
            return None
        case "none":
            return {"type": "none"}
        case "required":
            return {"type": "any"}
        case {"type": "function", "function": {"name": str(name)}}:
            return {"type": "tool", "name": name}
    raise Untranslatable("tool_choice", "must be auto, none, required or a function")


_CHAT = Codec(_PATH, decode_chat, _translate, to_chat, stream=MessageStream)
ANTHROPIC = Dialect(
    _CHAT, {Operation.CHAT: _CHAT, Operation.MESSAGES: Codec(_PATH, decode_message)}, "/v1/models"
)
