"""Tests how chat requests are translated for Anthropic."""

from typing import Any

import pytest
from support.tool_calls import CALL

from shared.dialects.anthropic import ANTHROPIC
from shared.dialects.dialect import Operation, Untranslatable

HELLO = {"role": "user", "content": "hello"}
PNG = "iVBORw0KGgo="
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    },
}

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}


def translate(model: str = "claude-sonnet-5", **fields: Any) -> dict[str, Any]:
    codec = ANTHROPIC.foreign[Operation.CHAT]
    assert codec.translate is not None
    return codec.translate(model, {"messages": [HELLO], **fields})


def turns(*messages: dict[str, Any]) -> dict[str, Any]:
    body = translate(messages=list(messages))
    return {name: body[name] for name in ("system", "messages") if name in body}


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-sonnet-5", 128_000),
        ("claude-opus-5-5", 128_000),
        ("claude-opus-4-7", 128_000),
        ("claude-opus-4-5-20251101", 64_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-sonnet-4-6", 128_000),
        ("Claude-Sonnet-4-5", 64_000),
        ("claude-haiku-4-5", 64_000),
        ("claude-3-7-sonnet-latest", 64_000),
        ("claude-3-5-haiku-latest", 8_192),
        ("claude-3-opus-20240229", 4_096),
        ("another-model", 4_096),
    ],
)
def test_the_token_limit_that_anthropic_demands(model: str, limit: int) -> None:
    assert translate(model) == {"model": model, "max_tokens": limit, "messages": [HELLO]}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"top_p": 0.5, "top_k": 3}, {"top_p": 0.5, "top_k": 3}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ({"reasoning_effort": "high"}, {"output_config": {"effort": "high"}}),
        ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "adaptive"}}),
        (
            {"tools": [TOOL]},
            {
                "tools": [
                    {
                        "name": "weather",
                        "description": "Tells the weather.",
                        "input_schema": TOOL["function"]["parameters"],  # type: ignore[index]
                        "strict": True,
                    }
                ]
            },
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"},
            {
                "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
                "tool_choice": {"type": "any"},
            },
        ),
        *[
            (
                {"tools": [{"function": {"name": "f", "parameters": SCHEMA}}], **chat},
                {"tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": choice},
            )
            for chat, choice in (
                ({"tool_choice": "none"}, {"type": "none"}),
                (
                    {"tool_choice": {"type": "function", "function": {"name": "f"}}},
                    {"type": "tool", "name": "f"},
                ),
                (
                    {"parallel_tool_calls": False},
                    {"type": "auto", "disable_parallel_tool_use": True},
                ),
                (
                    {"parallel_tool_calls": False, "tool_choice": "required"},
                    {"type": "any", "disable_parallel_tool_use": True},
                ),
            )
        ],
        # Fields without effect, and fields with their default.
        (
            {
                "n": 1,
                "stream": False,
                "store": True,
                "metadata": {"a": "b"},
                "logprobs": False,
                "frequency_penalty": 0.0,
                "response_format": {"type": "text"},
                "tool_choice": "auto",
                "seed": None,
                "stop": None,
                "service_tier": "auto",
            },
            {},
        ),
    ],
)
def test_fields(fields: dict[str, Any], sent: dict[str, Any]) -> None:
    body = translate(**fields)

    expected = {"model": "claude-sonnet-5", "max_tokens": 128_000, "messages": [HELLO], **sent}
    assert body == expected


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        (
            [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, HELLO],
            {"system": "a\n\nb", "messages": [HELLO]},
        ),
        (
            [HELLO, {"role": "system", "content": [{"type": "text", "text": "a"}]}],
            {"messages": [HELLO, {"role": "system", "content": "a"}]},
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
                        {
                            "type": "image_url",
                            "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"},
                        },
                        {
                            "type": "file",
                            "file": {"file_data": f"data:application/pdf;base64,{PNG}"},
                        },
                    ],
                }
            ],
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "see"},
                            {
                                "type": "image",
                                "source": {"type": "url", "url": "https://x.test/a.png"},
                            },
                            {
                                "type": "image",
                                "source": {
                                    "type": "base64",
                                    "media_type": "image/png",
                                    "data": PNG,
                                },
                            },
                            {
                                "type": "document",
                                "source": {
                                    "type": "base64",
                                    "media_type": "application/pdf",
                                    "data": PNG,
                                },
                            },
                        ],
                    }
                ]
            },
        ),
        (
            [
                HELLO,
                # Anthropic refuses text blocks without a text.
                {"role": "assistant", "content": "\n\n", "tool_calls": [CALL, CALL | {"id": "2"}]},
                {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"},
                {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "sun"}]},
                HELLO,
            ],
            {
                "messages": [
                    HELLO,
                    {
                        "role": "assistant",
                        "content": [
                            {
                                "type": "tool_use",
                                "id": id_,
                                "name": "weather",
                                "input": {"city": "Oslo"},
                            }
                            for id_ in ("toolu_1", "2")
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"},
                            {
                                "type": "tool_result",
                                "tool_use_id": "2",
                                "content": [{"type": "text", "text": "sun"}],
                            },
                        ],
                    },
                    HELLO,
                ]
            },
        ),
        (
            [
                HELLO,
                {
                    "role": "assistant",
                    "content": "well",
                    "reasoning": "hm",
                    "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
                    "tool_calls": [],
                },
            ],
            {
                "messages": [
                    HELLO,
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "hm", "signature": "s"},
                            {"type": "text", "text": "well"},
                        ],
                    },
                ]
            },
        ),
    ],
)
def test_messages(messages: list[dict[str, Any]], sent: dict[str, Any]) -> None:
    assert turns(*messages) == sent


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": "hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "a"}]}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "function", "content": "a"}]}, "messages[0].role"),
        ({"messages": [HELLO | {"name": "Ada"}]}, "messages[0].name"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0]",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}
                ]
            },
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"function": {"name": "f", "arguments": "{"}}],
                    }
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom"}]}]},
            "messages[0].tool_calls[0]",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a", "thinking_blocks": 7}]},
            "messages[0].thinking_blocks",
        ),
        ({"temperature": 1.5}, "temperature"),
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"reasoning_effort": "minimal"}, "reasoning_effort"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_has_no_faithful_translation_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Untranslatable) as caught:
        translate(**fields)

    assert caught.value.field == field
