"""Reads the fields of an OpenAI chat request that is translated into another dialect.

The functions raise Untranslatable if a field has a value that cannot be translated.

https://platform.openai.com/docs/api-reference/chat/create
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from shared.dialects.dialect import Untranslatable

# Fields that do not change the answer's text, such as the client's notes and cache hints. They are
# left out if the translation does not take them.
_WITHOUT_EFFECT = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "stream",
        "stream_options",
        "user",
    }
)
# Default values by field: a field with such a value is treated as absent.
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "function_call": ("auto",),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "tool_choice": ("auto",),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}


class Fields:
    """Holds the fields of a chat request.

    A translation takes the fields that it knows, and then calls `refuse_rest`. Fields that are null
    or have their default values are treated as absent.
    """

    def __init__(self, chat: Mapping[str, Any], provider: str) -> None:
        self._fields = {
            name: value
            for name, value in chat.items()
            if value is not None and (name not in _DEFAULTS or value not in _DEFAULTS[name])
        }
        self._provider = provider

    def take(self, name: str) -> Any:  # noqa: ANN401 — JSON
        """Removes a field. Returns its value; None if the field is absent."""
        return self._fields.pop(name, None)

    def take_list(self, name: str) -> list[Any]:
        """Removes a field that is an array. Returns its values; [] if the field is absent."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise Untranslatable(name, "must be an array")
        return value

    def take_one_of(self, name: str, values: Collection[str]) -> str | None:
        """Removes a field that must have one of `values`. Returns its value; None if absent."""
        value = self.take(name)
        if value is None or (isinstance(value, str) and value in values):
            return value
        raise Untranslatable(name, f"must be one of {', '.join(values)}")

    def take_all(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Removes the fields in `names`. Returns their values, by their names at the provider."""
        found = [name for name in self._fields if name in names]
        return {names[name]: self._fields.pop(name) for name in found}

    def refuse_rest(self) -> None:
        """Raises Untranslatable if a field was not taken and may change the answer."""
        for name in self._fields:
            if name not in _WITHOUT_EFFECT:
                raise Untranslatable(
                    name,
                    f"{self._provider} has no such parameter; leave the field out, or add it to"
                    " `unsupported` of the provider in providers.toml",
                )


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class File:
    """Holds an image or a document: its address, or its type and its data in base64."""

    kind: str  # image or document
    url: str = ""
    media_type: str = ""
    data: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: dict[str, Any]


def messages_of(fields: Fields) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the messages, each with its path, such as `messages[0]`."""
    messages = fields.take_list("messages")
    if not messages:
        raise Untranslatable("messages", "must have at least one message")
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Untranslatable(path, "must be an object with a role")
        yield path, message


def parts_of(path: str, content: Any) -> list[Text | File]:  # noqa: ANN401 — JSON
    """Returns the parts of a content: of a text, of an array of parts, or of null (no parts)."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, list):
        raise Untranslatable(f"{path}.content", "must be a string or an array of parts")
    return [_part(f"{path}.content[{index}]", part) for index, part in enumerate(content)]


def _part(path: str, part: Any) -> Text | File:  # noqa: ANN401 — JSON
    match part:
        case str(text) | {"type": "text", "text": str(text)}:
            return Text(text)
        case {"type": "refusal", "refusal": str(text)}:
            return Text(text)
        case {"type": "image_url", "image_url": {"url": str(url)} | str(url)}:
            return _file(path, "image", url)
        case {"type": "file", "file": {"file_data": str(url)}} if url.startswith("data:"):
            return _file(path, "document", url)
    kind = part.get("type") if isinstance(part, dict) else None
    raise Untranslatable(path, f"the provider has no part that corresponds to type {kind}")


def _file(path: str, kind: str, url: str) -> File:
    if not url.startswith("data:"):
        return File(kind, url)
    head, _, data = url.removeprefix("data:").partition(",")
    media_type, *parameters = head.split(";")
    if "base64" not in parameters:
        raise Untranslatable(path, "a data: URL must contain base64")
    return File(kind, media_type=media_type, data=data)


def tool_calls_of(path: str, message: Mapping[str, Any]) -> Iterator[ToolCall]:
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise Untranslatable(f"{path}.tool_calls", "must be an array")
    for index, call in enumerate(calls):
        match call:
            case {"function": {"name": str(name), "arguments": arguments}}:
                where = f"{path}.tool_calls[{index}].function.arguments"
                yield ToolCall(str(call.get("id", "")), name, _arguments(where, arguments))
            case _:
                raise Untranslatable(
                    f"{path}.tool_calls[{index}]",
                    "must be a call of a function, with `name` and `arguments`",
                )


def _arguments(path: str, arguments: Any) -> dict[str, Any]:  # noqa: ANN401 — JSON
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments or "{}")
        except ValueError:
            arguments = None
    if not isinstance(arguments, dict):
        raise Untranslatable(path, "must be a JSON object")
    return arguments


def only(path: str, message: Mapping[str, Any], *names: str) -> None:
    """Raises Untranslatable if a message has a field that is not in `names` and has a value."""
    for name, value in message.items():
        if value and name not in names:
            raise Untranslatable(f"{path}.{name}", "the provider has no such field; leave it out")


def token_limit(fields: Fields) -> int | None:
    """Removes both fields of the token limit. Returns the limit; None if there is no limit."""
    limits = [fields.take(name) for name in ("max_completion_tokens", "max_tokens")]
    return next((limit for limit in limits if limit is not None), None)


def stops(fields: Fields) -> list[str]:
    stop = fields.take("stop")
    if stop is None:
        return []
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list):
        raise Untranslatable("stop", "must be a string or an array of strings")
    return stops


def json_schema(fields: Fields) -> dict[str, Any] | str | None:
    """Removes `response_format`. Returns its schema, or "json" if it asks for any JSON object.

    Returns None if the field is absent.
    """
    match fields.take("response_format"):
        case None:
            return None
        case {"type": "json_object"}:
            return "json"
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
    raise Untranslatable("response_format", "must be json_object, or json_schema with a schema")
