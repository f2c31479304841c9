"""Translates the messages of an OpenAI chat request into messages of Anthropic."""

from typing import Any

from shared.dialects.chat_request import (
    Fields,
    File,
    Text,
    messages_of,
    only,
    parts_of,
    tool_calls_of,
)
from shared.dialects.dialect import Untranslatable

Blocks = list[dict[str, Any]]


def messages(fields: Fields) -> tuple[str, list[dict[str, Any]]]:
    """Returns the system prompt ("" if there is none), and the other messages.

    The system prompt is the text of the system messages before the first other message. A later
    system message stays where it is, although models before Claude Opus 4.8 refuse it there.
    Raises Untranslatable.
    """
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for path, message in messages_of(fields):
        role = message.get("role")
        if role in {"system", "developer"}:
            text = _system(path, message)
            if turns:
                turns.append({"role": "system", "content": text})
            else:
                system.append(text)
        elif role == "tool":
            _add_result(turns, _result(path, message))
        elif role == "assistant":
            turns.append({"role": "assistant", "content": _assistant(path, message)})
        elif role == "user":
            only(path, message, "role", "content")
            turns.append({"role": "user", "content": _content(path, message.get("content"))})
        else:
            raise Untranslatable(f"{path}.role", f"Anthropic has no role {role}")
    if not turns:
        raise Untranslatable("messages", "Anthropic needs a message of the user or the assistant")
    return "\n\n".join(filter(None, system)), turns


def _system(path: str, message: dict[str, Any]) -> str:
    only(path, message, "role", "content")
    parts = parts_of(path, message.get("content"))
    for index, part in enumerate(parts):
        if not isinstance(part, Text):
            raise Untranslatable(
                f"{path}.content[{index}]", "a system message must contain only text"
            )
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def _assistant(path: str, message: dict[str, Any]) -> str | Blocks:
    only(
        path,
        message,
        "role",
        "content",
        "refusal",
        "reasoning",
        "reasoning_content",
        "thinking_blocks",
        "tool_calls",
    )
    content = _content(path, message.get("content") or message.get("refusal"))
    thoughts: Blocks = message.get("thinking_blocks") or []
    if not isinstance(thoughts, list):
        raise Untranslatable(f"{path}.thinking_blocks", "must be an array")
    calls: Blocks = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        for call in tool_calls_of(path, message)
    ]
    if not thoughts and not calls:
        return content
    blocks = _blocks(path, content) if content else []
    return [*thoughts, *blocks, *calls]


def _result(path: str, message: dict[str, Any]) -> dict[str, Any]:
    only(path, message, "role", "content", "tool_call_id", "name")
    return {
        "type": "tool_result",
        "tool_use_id": message.get("tool_call_id"),
        "content": _content(path, message.get("content")),
    }


def _add_result(turns: list[dict[str, Any]], result: dict[str, Any]) -> None:
    """Adds a tool's result to the last message if that has results, or else in a new message.

    Anthropic requires the results of parallel calls in one message.
    """
    last = turns[-1] if turns else {}
    content = last.get("content")
    if last.get("role") == "user" and isinstance(content, list) and _is_result(content[-1]):
        content.append(result)
    else:
        turns.append({"role": "user", "content": [result]})


def _is_result(block: dict[str, Any]) -> bool:
    return block.get("type") == "tool_result"


def _content(path: str, content: Any) -> str | Blocks:  # noqa: ANN401 — JSON
    return content if isinstance(content, str) else _blocks(path, content)


def _blocks(path: str, content: Any) -> Blocks:  # noqa: ANN401 — JSON
    """Returns the parts as blocks, without the blank texts, which Anthropic refuses."""
    parts = parts_of(path, content)
    return [_block(part) for part in parts if not (isinstance(part, Text) and _is_blank(part))]


def _is_blank(part: Text) -> bool:
    return not part.text or part.text.isspace()


def _block(part: Text | File) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case File(kind, url=url) if url:
            return {"type": kind, "source": {"type": "url", "url": url}}
        case File(kind, media_type=media_type, data=data):
            source = {"type": "base64", "media_type": media_type, "data": data}
            return {"type": kind, "source": source}
