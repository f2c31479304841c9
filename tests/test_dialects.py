import json
from typing import Any

import orjson
import pytest

from shared.dialects.dialect import Answer, Dialect, ErrorInBody
from shared.dialects.ollama import OLLAMA
from shared.dialects.openai import OPENAI
from shared.queue.item_request import ItemRequest
from worker.providers.endpoint import encode

CHAT: ItemRequest = {
    "provider": "any",
    "model": "some/model:free",
    "chat": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hello 🎉"},
            {"role": "assistant", "content": "hi"},
            {"role": "user", "content": "bye"},
        ],
        "temperature": 0.0,
        "max_tokens": 7,
    },
}
HI = Answer("hi", 4, 3, 7, "stop")
NO_USAGE = Answer("hi", 0, 0, 0, None)
USAGE = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}


def choices(message: object, **fields: object) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": "stop", **fields}]}


def test_openai_encode() -> None:
    assert orjson.loads(encode(OPENAI.native, CHAT)) == {
        "model": "some/model:free",
        "messages": CHAT["chat"]["messages"],
        "temperature": 0.0,
        "max_tokens": 7,
    }


def test_ollama_encode() -> None:
    assert orjson.loads(encode(OLLAMA.native, CHAT)) == {
        "model": "some/model:free",
        "messages": CHAT["chat"]["messages"],
        "stream": False,
        "options": {"temperature": 0.0, "num_predict": 7},
    }


@pytest.mark.parametrize(
    ("dialect", "path"), [(OPENAI, "/chat/completions"), (OLLAMA, "/api/chat")]
)
def test_path(dialect: Dialect, path: str) -> None:
    assert dialect.native.path == path


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
            Answer("hi", 4, 3, 7, "stop", 0.1),
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
            Answer("one", 0, 0, 0, None),
        ),
        (
            choices({"content": "🎉 \u0000 \u202e"}, finish_reason=None),
            Answer("🎉 \u0000 \u202e", 0, 0, 0, None),
        ),
    ],
)
def test_openai_decode(reply: dict[str, Any], completion: Answer) -> None:
    assert OPENAI.native.decode(reply) == completion


INVALID_COUNTS = ["-1", "0.5", '"4"', "true", "[]", "{}", "null", str(2**63), "9" * 400]


@pytest.mark.parametrize("count", INVALID_COUNTS)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
def test_an_invalid_count_discards_no_answer(name: str, count: str) -> None:
    """The answer must not be lost, because the provider charges for it."""
    usage = f'{{"{name}": {count}}}'
    body = f'{{"choices": [{{"message": {{"content": "hi"}}}}], "usage": {usage}}}'

    assert OPENAI.native.decode(json.loads(body)) == NO_USAGE


@pytest.mark.parametrize("count", INVALID_COUNTS)
def test_an_invalid_count_of_ollama_discards_no_answer(count: str) -> None:
    body = (
        f'{{"message": {{"content": "hi"}}, "prompt_eval_count": {count}, "eval_count": {count}}}'
    )

    assert OLLAMA.native.decode(json.loads(body)) == NO_USAGE


@pytest.mark.parametrize("cost", ["-1", "NaN", "Infinity", '"0.1"', "true", "{}", "9" * 400])
def test_an_invalid_cost_discards_no_answer(cost: str) -> None:
    body = f'{{"choices": [{{"message": {{"content": "hi"}}}}], "usage": {{"cost": {cost}}}}}'

    assert OPENAI.native.decode(json.loads(body)) == NO_USAGE


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
            HI,
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
    assert OLLAMA.native.decode(reply) == completion


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
        (OPENAI, {"error": {}}, 502, ""),
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
        (OLLAMA, {"error": ""}, 500, ""),
        (OLLAMA, {"error": "oh", "message": {"content": "half an ans"}}, 500, "oh"),
    ],
)
def test_error_object(
    dialect: Dialect, reply: dict[str, Any], status_code: int, message: str
) -> None:
    with pytest.raises(ErrorInBody) as caught:
        dialect.native.decode(reply)
    assert vars(caught.value) == {"status_code": status_code, "message": message}


@pytest.mark.parametrize("dialect", [OPENAI, OLLAMA], ids=["openai", "ollama"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"hi"',
        b"7",
        b"{}",
        b"<html></html>",
        b"\xff\xfe",
        b'{"message":{"content":"\xff"},"choices":[{"message":{"content":"\xff"}}]}',
        b'{"message":{"content":"\\ud800"},"choices":[{"message":{"content":"\\ud800"}}]}',
        b'{"error":7}',
        b'{"error":null}',
        b'{"error":["oh"]}',
    ],
)
def test_not_a_reply(dialect: Dialect, body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is never shown
        dialect.decode(body)


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
        {"choices": [{"message": "hi"}]},
        {"choices": [{"text": "hi"}]},
        choices({"content": 7}),
        choices({"content": ["hi"]}),
        choices({"content": {"text": "hi"}}),
        choices({"content": "hi"}, finish_reason=7),
        choices({"content": "hi"}) | {"usage": 7},
        {"error": "oh"},
        {"error": {"code": 429, "message": 7}},
        {"error": {"code": {}}},
    ],
)
def test_openai_reply_of_wrong_shape(reply: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is never shown
        OPENAI.native.decode(reply)


@pytest.mark.parametrize(
    "reply",
    [
        {"message": None},
        {"message": "hi"},
        {"message": []},
        {"message": {"content": 7}},
        {"message": {"content": ["hi"]}},
        {"message": {"content": "hi"}, "done_reason": 7},
        {"error": {"message": "oh"}},
        {"response": "hi"},
    ],
)
def test_ollama_reply_of_wrong_shape(reply: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is never shown
        OLLAMA.native.decode(reply)


@pytest.mark.parametrize(
    ("dialect", "body", "text"),
    [
        (OPENAI, b'{"error":{"code":400,"message":"no"}}', "no"),
        (OPENAI, b'{"error":{"code":"bad","message":"no","type":"x","param":null}}', "no"),
        (OPENAI, b'{"error":{"message":"no"},"user_id":"u"}', "no"),
        (OLLAMA, b'{"error":"no","code":1}', "no"),
        (OLLAMA, b'{"error":null}', None),
        (OPENAI, b'{"error":null}', None),
        (OPENAI, b'{"error":"no"}', None),
        (OPENAI, b'{"error":{"message":7}}', None),
        (OLLAMA, b'{"error":{"message":"no"}}', None),
        *[
            (dialect, body, None)
            for dialect in (OPENAI, OLLAMA)
            for body in (b"", b"{", b"{}", b"[]", b"null", b"<html></html>", b"\xff")
        ],
    ],
)
def test_error_text(dialect: Dialect, body: bytes, text: str | None) -> None:
    assert dialect.error_text(body) == text
