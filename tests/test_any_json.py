"""Tests that no JSON makes a dialect fail in a way that its interface does not name."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.search_depth import examples

from shared.dialects.dialect import Answer, Codec, ErrorInBody, NoAnswer, Unfinished, Untranslatable
from shared.dialects.dialects import DIALECTS
from shared.dialects.json_text import one_line, read_json
from shared.dialects.refusal_reason import codes, reason

# Counting would double the time of the search, and other tests run the same lines.
pytestmark = pytest.mark.no_cover

# Words of requests and answers, so that the search finds its way into them.
WORDS = [
    "messages",
    "role",
    "user",
    "assistant",
    "system",
    "tool",
    "content",
    "type",
    "text",
    "image_url",
    "url",
    "file",
    "file_data",
    "refusal",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "{}",
    "tools",
    "tool_choice",
    "required",
    "response_format",
    "json_schema",
    "schema",
    "stop",
    "max_tokens",
    "temperature",
    "reasoning_effort",
    "high",
    "options",
    "output_config",
    "thinking_blocks",
    "n",
    "choices",
    "message",
    "finish_reason",
    "error",
    "stop_reason",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "cost",
    "output",
    "status",
    "completed",
    "incomplete_details",
    "data",
    "embedding",
    "candidates",
    "parts",
    "finishReason",
    "promptFeedback",
    "blockReason",
    "usageMetadata",
    "done",
    "done_reason",
    "load",
    "thinking",
    "input",
    "tool_use",
    "id",
    "code",
    "metadata",
    "raw",
    "details",
    "reason",
    "eval_count",
    "logprobs",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([*WORDS, "data:image/png;base64,aGk=", "data:,", "https://x.test/a"])
    | st.text(max_size=5)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)
DEPTH = settings(max_examples=examples(200, full=5_000), deadline=None)
CODECS = list(
    dict.fromkeys(
        codec
        for dialect in DIALECTS.values()
        for codec in (dialect.native, *dialect.foreign.values())
    )
)


def name_of(codec: Codec) -> str:
    return codec.path


@pytest.mark.parametrize("codec", CODECS, ids=name_of)
@given(JSON)
@DEPTH
def test_any_json_is_an_answer_or_none(codec: Codec, reply: Any) -> None:
    try:
        answer, _ = codec.read(reply)
    except (ErrorInBody, Unfinished, NoAnswer):
        return
    assert isinstance(answer, Answer)
    assert isinstance(answer.content, str)
    assert answer.prompt_tokens >= 0 <= answer.completion_tokens
    assert answer.finish_reason is None or isinstance(answer.finish_reason, str)
    orjson.dumps(answer)


MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system", "developer", "x", 1, [], {}])},
    optional=dict.fromkeys(
        (
            "content",
            "tool_calls",
            "tool_call_id",
            "name",
            "refusal",
            "reasoning",
            "thinking_blocks",
        ),
        JSON,
    ),
)


@pytest.mark.parametrize("codec", [c for c in CODECS if c.translate], ids=name_of)
@given(
    st.lists(MESSAGE, max_size=3),
    st.dictionaries(st.sampled_from(WORDS) | st.sampled_from(["top_p", "seed"]), JSON, max_size=4),
)
@DEPTH
def test_any_chat_is_translated_or_refused(
    codec: Codec, messages: list[Any], fields: dict[str, Any]
) -> None:
    assert codec.translate is not None
    try:
        body = codec.translate("m", {"messages": messages, **fields})
    except Untranslatable:
        return
    orjson.dumps(body)


@given(JSON)
def test_any_json_has_a_reason_or_none(error: Any) -> None:
    assert isinstance(reason(error), str)
    assert all(code == code.lower() for code in codes(error))


@given(JSON)
def test_any_json_is_read_as_it_is(value: Any) -> None:
    assert read_json(orjson.dumps(value)) == (value, orjson.dumps(value))


@given(st.binary(max_size=60))
def test_any_bytes_are_json_or_not(body: bytes) -> None:
    try:
        _, text = read_json(body)
    except ValueError:
        return
    assert "\n" not in one_line(text)
