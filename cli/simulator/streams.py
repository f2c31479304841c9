"""Answers with a stream of server-sent events, as OpenAI does: one chunk per word."""

import time
from collections.abc import Callable
from typing import Any

import orjson

from cli.simulator.chat import Chat
from cli.simulator.connection import Exchange
from cli.simulator.dialect import SimulatedDialect
from cli.simulator.faults import CallOutcome, Plan, SimulatedFault

STREAM_FAULTS = {
    None,
    SimulatedFault.HALF,
    SimulatedFault.ERROR_OBJECT,
}  # other faults are the same with and without a stream
_DONE = b"data: [DONE]\n\n"


def respond_stream(
    exchange: Exchange,
    dialect: SimulatedDialect,
    chat: Chat,
    plan: Plan,
    chunk_s: float,
    done: Callable[[CallOutcome], None],
) -> None:
    """Sends an event each `chunk_s` seconds, then calls `done`.

    The fault `half` ends the connection after half of the events; `error-object` sends an error
    instead of the second half.
    """
    assert dialect.stream is not None  # noqa: S101 — the call was refused otherwise
    events = dialect.stream(chat)
    if plan.fault in {SimulatedFault.HALF, SimulatedFault.ERROR_OBJECT}:
        events = events[: len(events) // 2]
    if plan.fault is SimulatedFault.ERROR_OBJECT:
        events.append(b"data: %b\n\n" % dialect.error_body(plan.status, "Provider failed"))
    is_whole = plan.fault is not SimulatedFault.HALF
    exchange.reply_stream(events, chunk_s, lambda: done(200), is_whole=is_whole)


def chat_events(chat: Chat) -> list[bytes]:
    head = {
        "id": f"gen-{chat.item}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": chat.model,
    }

    def event(**fields: object) -> bytes:
        return b"data: %b\n\n" % orjson.dumps({**head, **fields})

    def delta(fields: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish_reason}
        return event(choices=[choice])

    events = [delta({"role": "assistant", "content": None if chat.call else ""})]
    if chat.call:
        function = {"name": chat.call.name, "arguments": ""}
        call = {"index": 0, "id": f"call_{chat.item}", "type": "function", "function": function}
        arguments = {"index": 0, "function": {"arguments": chat.call.arguments_json}}
        events += [delta({"tool_calls": [call]}), delta({"tool_calls": [arguments]})]
    else:
        words = f"echo: {chat.text}".split(" ")
        events += [delta({"content": f" {word}" if n else word}) for n, word in enumerate(words)]
    events.append(delta({}, "tool_calls" if chat.call else "stop"))
    if chat.stream_usage:
        prompt, answer = chat.prompt_tokens, chat.answer_tokens
        usage = {"prompt_tokens": prompt, "completion_tokens": answer}
        events.append(event(choices=[], usage={**usage, "total_tokens": prompt + answer}))
    return [*events, _DONE]


def response_events(response: dict[str, Any]) -> list[bytes]:
    [item] = response["output"]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    text = item["content"][0]["text"] if item["type"] == "message" else ""
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    events += [
        {"type": "response.output_text.delta", **place, "delta": part, "logprobs": []}
        for part in text.split(" ")
    ]
    events.append({"type": "response.completed", "response": response})
    return [
        b"event: %b\ndata: %b\n\n"
        % (event["type"].encode(), orjson.dumps({**event, "sequence_number": number}))
        for number, event in enumerate(events)
    ]
