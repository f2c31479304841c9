"""Tests how answers of Anthropic are read, and translated into chat answers."""

from typing import Any

import pytest
from support.tool_calls import CALL

from shared.dialects.anthropic import ANTHROPIC
from shared.dialects.dialect import Answer, ErrorInBody, NoAnswer, Operation

# Recorded: https://platform.claude.com/docs/en/api/messages
MESSAGE: dict[str, Any] = {
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 4,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 1,
        "output_tokens": 3,
        "service_tier": "standard",
    },
}
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (MESSAGE, Answer("hi", 7, 3, 10, "end_turn", usage=MESSAGE["usage"])),
        (
            MESSAGE | {"content": [THOUGHT, {"type": "text", "text": "hi"}], "usage": []},
            Answer("hi", finish_reason="end_turn"),
        ),
        (
            MESSAGE | {"content": [TOOL_USE], "stop_reason": "tool_use", "usage": None},
            Answer("", finish_reason="tool_use"),
        ),
        (MESSAGE | {"content": [], "usage": None}, Answer("", finish_reason="end_turn")),
        (MESSAGE | {"content": "hi", "usage": None}, Answer("hi", finish_reason="end_turn")),
    ],
)
def test_the_answer_to_a_messages_body(reply: object, answer: Answer) -> None:
    assert ANTHROPIC.foreign[Operation.MESSAGES].read(reply) == (answer, reply)


def test_an_answer_in_chat_form() -> None:
    reply = MESSAGE | {
        "content": [THOUGHT, {"type": "text", "text": "hi"}, TOOL_USE],
        "stop_reason": "tool_use",
    }

    answer, chat = ANTHROPIC.native.read(reply)

    message = {
        "role": "assistant",
        "content": "hi",
        "reasoning": "hm",
        "thinking_blocks": [THOUGHT],
        "tool_calls": [CALL],
    }
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 1},
        **MESSAGE["usage"],
    }
    assert chat == {
        "id": MESSAGE["id"],
        "object": "chat.completion",
        "model": "claude-sonnet-5",
        "choices": [
            {"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}
        ],
        "usage": usage,
    }
    assert answer == Answer("hi", 7, 3, 10, "tool_calls", message=message, usage=usage)


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
        (None, None),
    ],
)
def test_finish_reasons(stop_reason: str | None, finish_reason: str | None) -> None:
    answer, _ = ANTHROPIC.native.read(MESSAGE | {"stop_reason": stop_reason})

    assert answer.finish_reason == finish_reason


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "not this one"}
    reply = MESSAGE | {"content": [], "stop_reason": "refusal", "stop_details": details}

    answer, _ = ANTHROPIC.native.read(reply)

    assert answer.message == {"role": "assistant", "content": None, "refusal": "not this one"}


@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.MESSAGES])
@pytest.mark.parametrize(
    ("reply", "status_code"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow"}}, 429),
        ({"type": "error", "error": {"type": "not_found_error", "message": "model: x"}}, 404),
        ({"type": "error", "error": {"type": "api_error", "message": "Oh"}}, 502),
        ({"type": "message"}, None),
        ([], None),
        (None, None),
    ],
)
def test_no_answer(operation: Operation, reply: object, status_code: int | None) -> None:
    with pytest.raises((ErrorInBody, NoAnswer)) as caught:
        ANTHROPIC.foreign[operation].read(reply)

    assert getattr(caught.value, "status_code", None) == status_code
