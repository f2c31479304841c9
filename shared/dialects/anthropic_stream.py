"""Reads a streamed message of Anthropic, and translates it into the chunks of a chat completion.

https://platform.claude.com/docs/en/build-with-claude/streaming
"""

import time
from collections.abc import Mapping
from typing import Any

import orjson

from shared.dialects.anthropic_answer import chat_usage, finish_reason
from shared.dialects.dialect import Unfinished
from shared.dialects.error_in_body import raise_error
from shared.dialects.json_text import read_json
from shared.dialects.sse import Event
from shared.dialects.values import record, word

# Type of a delta → its field. The block that the delta continues has the same field.
_TEXTS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
_SHOWN_AS = {"text_delta": "content", "thinking_delta": "reasoning"}


class MessageStream:
    def __init__(self, stream_options: Mapping[str, Any]) -> None:
        self._shows_usage = bool(stream_options.get("include_usage"))
        self._created = int(time.time())
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._arguments: dict[int, str] = {}  # JSON of the tools' arguments, by block
        self._is_complete = False

    def read(self, event: Event) -> list[bytes]:
        value = record(read_json(event.data.encode())[0])
        raise_error(value.get("error"))
        match value.get("type"):
            case "message_start":
                self._message = {**record(value.get("message")), "content": []}
                return [self._delta({"role": "assistant", "content": ""})]
            case "content_block_start":
                return self._start(value.get("index") or 0, record(value.get("content_block")))
            case "content_block_delta":
                return self._continue(value.get("index") or 0, record(value.get("delta")))
            case "content_block_stop":
                return self._stop(value.get("index") or 0)
            case "message_delta":
                usage = {**record(self._message.get("usage")), **record(value.get("usage"))}
                self._message |= {**record(value.get("delta")), "usage": usage}
                reason = finish_reason(word(self._message.get("stop_reason")))
                return [self._delta({}, reason)] if reason else []
            case "message_stop":
                self._is_complete = True
        return []

    def end(self) -> tuple[list[bytes], dict[str, Any]]:
        if not (self._is_complete or self._message.get("stop_reason")):
            raise Unfinished("the stream ended early")
        for index, arguments in self._arguments.items():
            self._blocks[index]["input"] = read_json(arguments.encode() or b"{}")[0]
        self._message["content"] = [self._blocks[index] for index in sorted(self._blocks)]
        usage = chat_usage(record(self._message.get("usage")))
        events = [self._chunk([], usage=usage)] if self._shows_usage and usage else []
        return events, self._message

    def _start(self, index: int, block: dict[str, Any]) -> list[bytes]:
        self._blocks[index] = dict(block)
        if block.get("type") != "tool_use":
            text = block.get("text")
            return [self._delta({"content": text})] if text else []
        self._arguments[index] = ""
        function = {"name": block.get("name"), "arguments": ""}
        return [self._tool(index, id=block.get("id"), type="function", function=function)]

    def _continue(self, index: int, delta: dict[str, Any]) -> list[bytes]:
        kind = delta.get("type") or ""
        if kind == "input_json_delta" and index in self._arguments:
            part = str(delta.get("partial_json") or "")
            self._arguments[index] += part
            return [self._tool(index, function={"arguments": part})]
        name = _TEXTS.get(kind)
        if name is None:
            return []
        text, block = str(delta.get(name) or ""), self._blocks.setdefault(index, {"type": "text"})
        block[name] = str(block.get(name) or "") + text
        return [self._delta({_SHOWN_AS[kind]: text})] if kind in _SHOWN_AS else []

    def _stop(self, index: int) -> list[bytes]:
        if self._arguments.get(index) != "":
            return []
        self._arguments[index] = "{}"  # a tool without arguments
        return [self._tool(index, function={"arguments": "{}"})]

    def _tool(self, index: int, **fields: object) -> bytes:
        number = list(self._arguments).index(index)
        return self._delta({"tool_calls": [{"index": number, **fields}]})

    def _delta(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._chunk([choice])

    def _chunk(self, choices: list[dict[str, Any]], **fields: object) -> bytes:
        chunk = {
            "id": self._message.get("id"),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._message.get("model"),
            "choices": choices,
            **fields,
        }
        return b"data: %b\n\n" % orjson.dumps(chunk)
