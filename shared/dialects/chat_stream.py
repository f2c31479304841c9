"""Reads a streamed chat completion.

https://platform.openai.com/docs/api-reference/chat/streaming
"""

import time
from collections.abc import Mapping
from typing import Any

import orjson

from shared.dialects.dialect import Unfinished
from shared.dialects.error_in_body import raise_error
from shared.dialects.json_text import read_json
from shared.dialects.sse import Event
from shared.dialects.stream import END
from shared.dialects.values import record, records

_CHUNK = "chat.completion.chunk"
# Fields whose text is whole in each chunk. In other fields, each chunk has a part of the text.
_WHOLE = {"id", "type", "role", "name", "format", "signature"}
# Fields that OpenAI's clients need in each chunk
_NEEDED = ("id", "object", "created", "model", "choices")


class ChatStream:
    """Puts a chat completion together from its chunks.

    The client gets each chunk as it is, or with default values for missing fields of `_NEEDED`. The
    client gets the chunk with the usage, which has no choice, only if `include_usage` is true.
    """

    def __init__(self, stream_options: Mapping[str, Any]) -> None:
        self._shows_usage = bool(stream_options.get("include_usage"))
        self._usage_was_shown = False
        self._answer: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._has_end = False

    def read(self, event: Event) -> list[bytes]:
        if event.data.strip() == END:
            self._has_end = True
            return []
        chunk = record(read_json(event.data.encode())[0])
        raise_error(chunk.get("error"))
        self._add(chunk)
        is_usage = not chunk.get("choices") and bool(chunk.get("usage"))
        if is_usage and not self._shows_usage:
            return []
        self._usage_was_shown = self._usage_was_shown or is_usage
        if all(chunk.get(name) is not None for name in _NEEDED):
            return [event.encode()]
        return [_encode(self._complete(chunk))]

    def end(self) -> tuple[list[bytes], dict[str, Any]]:
        choices = [self._choices[index] for index in sorted(self._choices)]
        is_finished = choices and all(choice["finish_reason"] for choice in choices)
        if not (self._has_end or is_finished):
            raise Unfinished("the stream ended early")
        for choice in choices:
            for call in records(choice["message"].get("tool_calls")):
                call.pop("index", None)
        answer = {**self._answer, "object": "chat.completion", "choices": choices}
        events = []
        if self._shows_usage and not self._usage_was_shown and answer.get("usage"):
            events.append(_encode(self._complete({"choices": [], "usage": answer["usage"]})))
        return events, answer

    def _add(self, chunk: dict[str, Any]) -> None:
        for name, value in chunk.items():
            if name != "choices" and value is not None:
                self._answer[name] = value
        for part in records(chunk.get("choices")):
            index = part.get("index")
            choice = self._choices.setdefault(
                index if isinstance(index, int) else 0,
                {
                    "index": index or 0,
                    "message": {"role": "assistant", "content": None},
                    "logprobs": None,
                    "finish_reason": None,
                },
            )
            _merge(choice["message"], record(part.get("delta")))
            for name, value in part.items():
                if name == "logprobs" and isinstance(value, dict):
                    choice[name] = choice[name] or {}
                    _merge(choice[name], value)
                elif name not in {"index", "delta"} and value is not None:
                    choice[name] = value

    def _complete(self, chunk: dict[str, Any]) -> dict[str, Any]:
        answer = self._answer
        defaults: dict[str, Any] = {
            "id": answer.get("id") or "chatcmpl-stream",
            "object": _CHUNK,
            "created": answer.get("created") or int(time.time()),
            "model": answer.get("model") or "",
            "choices": [],
        }
        given = {name: value for name, value in chunk.items() if value is not None}
        return {**defaults, **given}


def _merge(target: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Adds the parts of a delta to `target`: texts are appended, lists extended, objects merged.

    Other values, and the texts of `_WHOLE`, replace the earlier values.
    """
    for name, value in delta.items():
        known = target.get(name)
        if value is None:
            target.setdefault(name, None)
        elif isinstance(known, str) and isinstance(value, str) and name not in _WHOLE:
            target[name] = known + value
        elif isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        elif isinstance(value, list):
            target[name] = _merge_list(known if isinstance(known, list) else [], value)
        elif value != "" or known is None:
            target[name] = value


def _merge_list(known: list[Any], more: list[Any]) -> list[Any]:
    """Adds the elements `more` to the list `known`, and returns it.

    An element with an `index`, such as a part of a tool call, is merged with the known element
    that has this index.
    """
    for element in more:
        index = element.get("index") if isinstance(element, dict) else None
        if not isinstance(index, int):
            known.append(element)
            continue
        part = {name: value for name, value in element.items() if name != "index"}
        twin = next((old for old in known if old.get("index") == index), None)
        if twin is None:
            twin = {"index": index}
            known.append(twin)
        _merge(twin, part)
    return known


def _encode(chunk: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(chunk)


def whole_chat(answer: Mapping[str, Any], stream_options: Mapping[str, Any]) -> list[bytes]:
    """Returns the events of a chat completion that was not streamed.

    These are one chunk, and a chunk with the usage if `include_usage` is true.
    """
    head = {name: answer.get(name) for name in ("id", "created", "model")}
    head |= {"object": _CHUNK}
    choices = [
        {
            "index": choice.get("index") or 0,
            "delta": _delta(record(choice.get("message"))),
            "logprobs": choice.get("logprobs"),
            "finish_reason": choice.get("finish_reason"),
        }
        for choice in records(answer.get("choices"))
    ]
    events = [_encode({**head, "choices": choices})]
    if stream_options.get("include_usage") and answer.get("usage"):
        events.append(_encode({**head, "choices": [], "usage": answer["usage"]}))
    return events


def _delta(message: dict[str, Any]) -> dict[str, Any]:
    calls = records(message.get("tool_calls"))
    if not calls:
        return message
    return {**message, "tool_calls": [{"index": n, **call} for n, call in enumerate(calls)]}
