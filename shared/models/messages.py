"""Defines the messages of a native request."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    Field,
    JsonValue,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from shared.models.request_base import MAX_TEXT, Inbound, JsonObject, Text

MAX_MESSAGES = 10_000  # limit per request


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    DEVELOPER = "developer"
    TOOL = "tool"


_ABSENT: Any = object()  # default of a field that may be absent only in some cases


def _content(value: object, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
    """Validates the content of a message: text, parts, or nothing.

    A union of the three would repeat the errors of each alternative.
    """
    if isinstance(value, list):
        return _parts(value)
    if isinstance(value, str) and (not value or value.isspace()) and len(value) <= MAX_TEXT:
        # Models write white space before the calls of tools, and a tool may return nothing.
        if info.data.get("role") is Role.TOOL or _has_more(info.data):
            return value
    elif value is None or value is _ABSENT:
        if _has_more(info.data):
            return None
        if value is _ABSENT:
            raise PydanticKnownError("missing")
    return validate(value)


def _has_more(fields: dict[str, Any]) -> bool:
    """Returns whether an assistant's message has a field that can replace its content."""
    return fields.get("role") is Role.ASSISTANT and any(map(fields.get, _INSTEAD_OF_CONTENT))


def _parts(parts: list[JsonValue]) -> list[JsonValue]:
    if not parts:
        raise PydanticCustomError("content_parts", "The list of parts must have at least one part")
    for number, part in enumerate(parts):
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            reason = "part {number} must be an object with a string `type`"
        elif isinstance(text, str) and len(text) > MAX_TEXT:
            reason = "the text of part {number} must have at most {limit} characters"
        else:
            continue
        raise PydanticCustomError("content_parts", reason, {"number": number, "limit": MAX_TEXT})
    return parts


class PlainMessage(Inbound):
    """Holds a message that has only a role and a text."""

    role: Role
    content: Text


class Message(Inbound):
    """Holds a message of a chat.

    `content` is a text, or a list of parts that each have a `type`. A message of the assistant that
    has `tool_calls`, `function_call`, `refusal` or `audio` needs no content. The message of a tool
    may have an empty text.
    """

    role: Role
    name: str | None = None
    tool_calls: list[JsonObject] | None = None
    tool_call_id: str | None = None
    function_call: JsonObject | None = None
    refusal: str | None = None
    audio: JsonObject | None = None
    annotations: list[JsonValue] | None = None
    reasoning: JsonValue = None
    reasoning_content: str | None = None
    reasoning_details: JsonValue = None
    thinking_blocks: list[JsonObject] | None = None
    content: Annotated[  # the last field, because its validation depends on others
        Text,
        WrapValidator(_content),
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_TEXT}),
    ] = Field(
        default_factory=lambda: _ABSENT,
        validate_default=True,
        description="The text, or a list of content parts as OpenAI defines them; `null`, empty or"
        " absent in an assistant's message that has `tool_calls`, `function_call`, `refusal` or"
        " `audio`. A message of a tool may be empty.",
    )


_INSTEAD_OF_CONTENT = ("tool_calls", "function_call", "refusal", "audio")
