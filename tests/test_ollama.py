"""Tests the translation of chat requests and answers to and from Ollama's native API."""

from typing import Any

import pytest

from shared.dialects.dialect import Answer, Untranslatable
from shared.dialects.ollama import OLLAMA

HELLO = {"role": "user", "content": "hello"}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def translate(**fields: Any) -> dict[str, Any]:
    assert OLLAMA.native.translate is not None
    return OLLAMA.native.translate("m", {"messages": [HELLO], **fields})


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, {}),
        (
            {
                "temperature": 0,
                "top_p": 0.5,
                "seed": 1,
                "stop": "END",
                "frequency_penalty": 0.5,
                "presence_penalty": 0.25,
                "max_tokens": 7,
                "top_k": 3,
            },
            {
                "options": {
                    "temperature": 0,
                    "top_p": 0.5,
                    "seed": 1,
                    "frequency_penalty": 0.5,
                    "presence_penalty": 0.25,
                    "top_k": 3,
                    "num_predict": 7,
                    "stop": ["END"],
                }
            },
        ),
        (
            {"max_completion_tokens": 7, "options": {"num_ctx": 8192}},
            {"options": {"num_predict": 7, "num_ctx": 8192}},
        ),
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            {"format": SCHEMA},
        ),
        ({"reasoning_effort": "high"}, {"think": "high"}),
        ({"reasoning_effort": "none"}, {"think": False}),
        ({"think": True, "keep_alive": "5m"}, {"think": True, "keep_alive": "5m"}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": [TOOL]}),
        ({"tools": [TOOL], "tool_choice": "none"}, {}),
        ({"n": 1, "user": "u", "stream": False, "temperature": None}, {}),
    ],
)
def test_fields(fields: dict[str, Any], sent: dict[str, Any]) -> None:
    assert translate(**fields) == {"model": "m", "messages": [HELLO], "stream": False, **sent}


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        (
            [{"role": "developer", "content": "be brief"}, HELLO],
            [{"role": "system", "content": "be brief"}, HELLO],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                        {"type": "text", "text": "this"},
                    ],
                }
            ],
            [{"role": "user", "content": "see\nthis", "images": ["iVBO"]}],
        ),
        (
            [
                HELLO,
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning": "hm",
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c", "content": "rain"},
            ],
            [
                HELLO,
                {
                    "role": "assistant",
                    "content": "",
                    "thinking": "hm",
                    "tool_calls": [
                        {
                            "id": "c",
                            "function": {"name": "weather", "arguments": {"city": "Oslo"}},
                        }
                    ],
                },
                {"role": "tool", "content": "rain", "tool_call_id": "c", "tool_name": "weather"},
            ],
        ),
    ],
)
def test_messages(messages: list[dict[str, Any]], sent: list[dict[str, Any]]) -> None:
    assert translate(messages=messages)["messages"] == sent


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": None}, "messages"),
        ({"messages": [HELLO | {"role": "critic"}]}, "messages[0].role"),
        ({"messages": [HELLO | {"name": "Ada"}]}, "messages[0].name"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
                        ],
                    }
                ]
            },
            "messages[0].content[0]",
        ),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"n": 2}, "n"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"reasoning_effort": "minimal"}, "reasoning_effort"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_what_has_no_faithful_translation_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Untranslatable) as caught:
        translate(**fields)

    assert caught.value.field == field


def test_an_answer_in_chat_form() -> None:
    counts = {"prompt_eval_count": 4, "eval_count": 3, "eval_duration": 9}
    reply = {
        "model": "m",
        "created_at": "2026-11-06T08:00:00Z",
        "message": {
            "role": "assistant",
            "content": "hi",
            "thinking": "hm",
            "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
        },
        "done": True,
        "done_reason": "stop",
        "logprobs": [{"token": "hi", "logprob": -0.1}],
        **counts,
    }

    answer, _ = OLLAMA.native.read(reply)

    message = {
        "role": "assistant",
        "content": "hi",
        "reasoning": "hm",
        "tool_calls": [
            {
                "id": "call_0",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
            }
        ],
    }
    logprobs = {"content": [{"token": "hi", "logprob": -0.1}]}
    assert answer == Answer(
        "hi", 4, 3, 7, "tool_calls", message=message, logprobs=logprobs, usage=counts
    )
