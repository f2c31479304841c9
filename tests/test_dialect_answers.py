"""Tests what dialects read from a response: an answer, an error or no answer."""

import json
from dataclasses import replace
from typing import Any

import pytest
from support.dialect_answers import HI, NO_USAGE, USAGE, choices, without_usage

from shared.dialects.dialect import (
    Answer,
    Dialect,
    ErrorInBody,
    NoAnswer,
)
from shared.dialects.ollama import OLLAMA
from shared.dialects.openai import OPENAI
from shared.dialects.refusal_reason import reason


@pytest.mark.parametrize(
    ("reply", "completion"),
    [
        (choices({"content": "hi"}) | {"usage": USAGE}, HI),
        (
            {
                "id": "gen-1",
                "object": "chat.completion",
                "provider": None,
                "usage": USAGE | {"cost": 0.1, "prompt_tokens_details": {"cached_tokens": 0}},
                "error": None,
                **choices(
                    {"role": "assistant", "content": "hi", "refusal": None, "reasoning": "hm"},
                    index=0,
                    logprobs=None,
                    error=None,
                ),
            },
            Answer(
                "hi",
                4,
                3,
                7,
                "stop",
                0.1,
                message={
                    "role": "assistant",
                    "content": "hi",
                    "refusal": None,
                    "reasoning": "hm",
                },
            ),
        ),
        (
            choices({"content": "hi"}, finish_reason="length") | {"usage": USAGE},
            Answer("hi", 4, 3, 7, "length"),
        ),
        ({"choices": [{"message": {"content": "hi"}}]}, NO_USAGE),
        (choices({"content": "hi"}, finish_reason=None), NO_USAGE),
        (choices({"content": "hi"}, finish_reason=None) | {"usage": None}, NO_USAGE),
        (
            choices({"content": "hi"}, finish_reason=None) | {"usage": dict.fromkeys(USAGE)},
            NO_USAGE,
        ),
        (
            choices({"content": "hi"}) | {"usage": {"prompt_tokens": 4, "completion_tokens": 3}},
            HI,
        ),
        (
            choices({"content": "hi"}) | {"usage": USAGE | {"total_tokens": 9}},
            Answer("hi", 4, 3, 9, "stop"),
        ),
        (
            choices({"content": "hi"}) | {"usage": USAGE | {"cost": 0}},
            Answer("hi", 4, 3, 7, "stop", 0),
        ),
        (choices({"content": None}) | {"usage": USAGE}, Answer("", 4, 3, 7, "stop")),
        (choices({"content": ""}) | {"usage": USAGE}, Answer("", 4, 3, 7, "stop")),
        (
            choices({"tool_calls": []}, finish_reason="tool_calls"),
            Answer("", 0, 0, 0, "tool_calls"),
        ),
        (
            {"choices": [{"message": {"content": "one"}}, {"message": {"content": "two"}}]},
            Answer(
                "one",
                choices=[{"message": {"content": "one"}}, {"message": {"content": "two"}}],
            ),
        ),
        (
            choices({"content": "🎉 \u0000 \u202e"}, finish_reason=None),
            Answer("🎉 \u0000 \u202e", 0, 0, 0, None),
        ),
    ],
)
def test_openai_decode(reply: dict[str, Any], completion: Answer) -> None:
    assert OPENAI.native.read(reply)[0] == replace(completion, usage=reply.get("usage"))


INVALID_COUNTS = ["-1", "0.5", '"4"', "true", "[]", "{}", "null", str(2**63), "9" * 400]


@pytest.mark.parametrize("count", INVALID_COUNTS)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
def test_an_invalid_count_discards_no_answer(name: str, count: str) -> None:
    """The answer must not be lost, because the provider charges for it."""
    usage = f'{{"{name}": {count}}}'
    body = f'{{"choices": [{{"message": {{"content": "hi"}}}}], "usage": {usage}}}'

    assert without_usage(OPENAI.native, json.loads(body)) == NO_USAGE


@pytest.mark.parametrize("count", INVALID_COUNTS)
def test_an_invalid_count_of_ollama_discards_no_answer(count: str) -> None:
    body = (
        f'{{"message": {{"content": "hi"}}, "prompt_eval_count": {count}, "eval_count": {count}}}'
    )

    assert without_usage(OLLAMA.native, json.loads(body)) == NO_USAGE


@pytest.mark.parametrize("cost", ["-1", "NaN", "Infinity", '"0.1"', "true", "{}", "9" * 400])
def test_an_invalid_cost_discards_no_answer(cost: str) -> None:
    body = f'{{"choices": [{{"message": {{"content": "hi"}}}}], "usage": {{"cost": {cost}}}}}'

    assert without_usage(OPENAI.native, json.loads(body)) == NO_USAGE


@pytest.mark.parametrize(
    ("reply", "completion"),
    [
        (
            {
                "message": {"content": "hi"},
                "done_reason": "stop",
                "prompt_eval_count": 4,
                "eval_count": 3,
            },
            HI,
        ),
        (
            {
                "model": "m",
                "created_at": "2026-11-06T08:00:00Z",
                "message": {"role": "assistant", "content": "hi", "thinking": "hm", "images": None},
                "done": True,
                "done_reason": "stop",
                "total_duration": 1,
                "prompt_eval_count": 4,
                "eval_count": 3,
                "error": None,
            },
            replace(HI, message={"role": "assistant", "content": "hi", "reasoning": "hm"}),
        ),
        ({"message": {"content": "hi"}}, NO_USAGE),
        (
            {
                "message": {"content": "hi"},
                "done_reason": None,
                "prompt_eval_count": None,
                "eval_count": None,
            },
            NO_USAGE,
        ),
        ({"message": {"content": "hi"}, "eval_count": 3}, Answer("hi", 0, 3, 3, None)),
        ({"message": {"content": "hi"}, "prompt_eval_count": 4}, Answer("hi", 4, 0, 4, None)),
        ({"message": {"content": None}}, Answer("", 0, 0, 0, None)),
        ({"message": {}}, Answer("", 0, 0, 0, None)),
    ],
)
def test_ollama_decode(reply: dict[str, Any], completion: Answer) -> None:
    assert replace(OLLAMA.native.read(reply)[0], usage=None) == completion


@pytest.mark.parametrize(
    ("dialect", "reply", "status_code", "message"),
    [
        (OPENAI, {"error": {"code": 429, "message": "slow"}}, 429, "slow"),
        (OPENAI, {"error": {"code": "429", "message": "slow"}}, 429, "slow"),
        (OPENAI, {"error": {"code": 429}}, 429, ""),
        (OPENAI, {"error": {"code": 429, "message": None}}, 429, ""),
        (OPENAI, {"error": {"code": 400, "message": "no", "metadata": {"a": 1}}}, 400, "no"),
        (OPENAI, {"error": {"code": "server_error", "message": "oh"}}, 502, "oh"),
        (OPENAI, {"error": {"code": None, "message": "oh"}}, 502, "oh"),
        (OPENAI, {"error": {"code": -1, "message": "oh"}}, 502, "oh"),
        (OPENAI, {"error": {"code": "٤٢٩", "message": "oh"}}, 502, "oh"),
        (OPENAI, {"error": {"message": "oh"}}, 502, "oh"),
        (OPENAI, {"error": {"code": 502, "message": "oh"}, "choices": []}, 502, "oh"),
        (
            OPENAI,
            choices({"content": "half an ans"}, error={"code": 502, "message": "oh"}),
            502,
            "oh",
        ),
        (
            OPENAI,
            choices({"content": "hi"}) | {"error": {"code": 400, "message": "no"}},
            400,
            "no",
        ),
        (OLLAMA, {"error": "oh"}, 500, "oh"),
        (OLLAMA, {"error": "oh", "message": {"content": "half an ans"}}, 500, "oh"),
    ],
)
def test_error_object(
    dialect: Dialect, reply: dict[str, Any], status_code: int, message: str
) -> None:
    with pytest.raises(ErrorInBody) as caught:
        dialect.native.read(reply)
    assert (caught.value.status_code, reason(caught.value.error)) == (status_code, message)


@pytest.mark.parametrize("dialect", [OPENAI, OLLAMA], ids=["openai", "ollama"])
@pytest.mark.parametrize(
    "reply", [None, [], "hi", 7, {}, {"error": 7}, {"error": None}, {"error": {}}, {"error": ""}]
)
def test_json_without_an_answer(dialect: Dialect, reply: object) -> None:
    with pytest.raises(NoAnswer):
        dialect.native.read(reply)


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": None},
        {"choices": []},
        {"choices": {}},
        {"choices": "hi"},
        {"choices": [None]},
        {"choices": ["hi"]},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        {"choices": [{"text": "hi"}]},
    ],
)
def test_openai_json_without_an_answer(reply: dict[str, Any]) -> None:
    with pytest.raises(NoAnswer):
        OPENAI.native.read(reply)[0]


@pytest.mark.parametrize("reply", [{"message": None}, {"message": []}, {"response": "hi"}])
def test_ollama_json_without_an_answer(reply: dict[str, Any]) -> None:
    with pytest.raises(NoAnswer):
        OLLAMA.native.read(reply)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ({"choices": [{"message": "hi"}]}, NO_USAGE),
        (
            choices({"content": 7}, finish_reason=None),
            Answer("", message={"content": 7}),
        ),
        (
            choices({"content": ["hi"]}, finish_reason=None),
            Answer("hi", message={"content": ["hi"]}),
        ),
        (
            choices({"content": {"text": "hi"}}, finish_reason=None),
            Answer("hi", message={"content": {"text": "hi"}}),
        ),
        (choices({"content": "hi"}, finish_reason=7), NO_USAGE),
        (choices({"content": "hi"}, finish_reason={"type": "stop"}), Answer("hi", 0, 0, 0, "stop")),
        (choices({"content": "hi"}, finish_reason=None) | {"usage": 7}, NO_USAGE),
        (choices({"content": "hi"}, finish_reason=None) | {"usage": []}, NO_USAGE),
        (choices({"content": "hi"}, finish_reason=None) | {"error": {}}, NO_USAGE),
        (choices({"content": "hi"}, finish_reason=None) | {"error": False}, NO_USAGE),
    ],
)
def test_an_odd_field_costs_no_answer_of_openai(reply: dict[str, Any], answer: Answer) -> None:
    assert OPENAI.native.read(reply)[0] == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ({"message": "hi"}, NO_USAGE),
        ({"message": {"content": 7}}, Answer("")),
        ({"message": {"content": ["hi"]}}, NO_USAGE),
        ({"message": {"content": "hi"}, "done_reason": 7}, NO_USAGE),
        ({"message": {"content": "hi"}, "error": ""}, NO_USAGE),
    ],
)
def test_an_odd_field_costs_no_answer_of_ollama(reply: dict[str, Any], answer: Answer) -> None:
    assert without_usage(OLLAMA.native, reply) == answer


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"code": 400, "message": "no"}}, "no"),
        ({"error": {"code": "bad", "message": "no", "type": "x", "param": None}}, "no"),
        ({"error": {"message": "no"}, "user_id": "u"}, "no"),
        ({"error": "no", "code": 1}, "no"),
        ({"error": None}, ""),
        ({"error": {"message": 7}}, ""),
        ({"object": "error", "message": "no", "code": 400}, "no"),
        ({"detail": "no"}, "no"),
        ({"detail": [{"loc": ["body", "x"], "msg": "no", "input": "secret"}]}, "body.x: no"),
        ([{"error": {"message": "no"}}], "no"),
        (
            {"error": {"message": "upstream failed", "metadata": {"raw": "the limit is 512"}}},
            "upstream failed: the limit is 512",
        ),
        (
            {"error": {"message": "failed", "metadata": {"raw": '{"error":{"message":"no"}}'}}},
            "failed: no",
        ),
        ({}, ""),
        ([], ""),
        (None, ""),
        (7, ""),
    ],
)
def test_reason(body: object, text: str) -> None:
    assert reason(body) == text
