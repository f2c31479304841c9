import json
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.dialects.dialect import (
    Answer,
    Codec,
    Dialect,
    ErrorInBody,
    NoAnswer,
    Operation,
    Unfinished,
)
from shared.dialects.ollama import OLLAMA
from shared.dialects.openai import OPENAI
from shared.dialects.refusal_reason import reason
from shared.providers import PROVIDERS, Provider
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


def without_usage(codec: Codec, reply: object) -> Answer:
    return replace(codec.read(reply)[0], usage=None)


def choices(message: object, **fields: object) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": "stop", **fields}]}


def test_openai_encode() -> None:
    assert orjson.loads(encode(PROVIDERS["openrouter"], OPENAI.native, CHAT)) == {
        "model": "some/model:free",
        "messages": CHAT["chat"]["messages"],
        "temperature": 0.0,
        "max_tokens": 7,
    }


def test_ollama_encode() -> None:
    assert orjson.loads(encode(PROVIDERS["ollama"], OLLAMA.native, CHAT)) == {
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


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "h", "annotations": []},
                {"type": "output_text", "text": "i", "annotations": []},
            ],
        },
    ],
    "usage": {"input_tokens": 4, "output_tokens": 3, "total_tokens": 7},
}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.1, -2e-05]}


@pytest.mark.parametrize(
    ("operation", "reply", "answer"),
    [
        (Operation.RESPONSES, RESPONSE, Answer("hi", 4, 3, 7, "completed")),
        (
            Operation.RESPONSES,
            RESPONSE
            | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            Answer("hi", 4, 3, 7, "max_output_tokens"),
        ),
        (
            Operation.RESPONSES,
            RESPONSE | {"output": [CALL], "usage": None},
            Answer("", finish_reason="completed"),
        ),
        (
            Operation.RESPONSES,
            RESPONSE | {"status": "queued", "output": [], "usage": None},
            Answer("", finish_reason="queued"),
        ),
        (
            Operation.EMBEDDINGS,
            {"data": [VECTOR], "usage": {"prompt_tokens": 4, "total_tokens": 4}},
            Answer("", 4, 0, 4),
        ),
        (Operation.EMBEDDINGS, {"data": [{"embedding": "zczMPQ=="}]}, Answer("")),
    ],
)
@pytest.mark.parametrize("dialect", [OPENAI, OLLAMA], ids=["openai", "ollama"])
def test_responses_and_embeddings(
    dialect: Dialect, operation: Operation, reply: object, answer: Answer
) -> None:
    assert without_usage(dialect.foreign[operation], reply) == answer


@pytest.mark.parametrize(
    ("operation", "reply", "error"),
    [
        (Operation.RESPONSES, {"output": None}, NoAnswer),
        (Operation.RESPONSES, choices({"content": "hi"}), NoAnswer),
        (Operation.RESPONSES, RESPONSE | {"status": "failed"}, Unfinished),
        (Operation.RESPONSES, RESPONSE | {"status": "cancelled"}, Unfinished),
        (
            Operation.RESPONSES,
            RESPONSE | {"error": {"code": "server_error", "message": "oh"}},
            ErrorInBody,
        ),
        (Operation.EMBEDDINGS, {"data": []}, NoAnswer),
        (Operation.EMBEDDINGS, {"data": [{"embedding": []}]}, NoAnswer),
        (Operation.EMBEDDINGS, {"data": [{"object": "embedding"}]}, NoAnswer),
        (Operation.EMBEDDINGS, {"error": "oh"}, ErrorInBody),
    ],
)
def test_no_response_and_no_embeddings(
    operation: Operation, reply: object, error: type[Exception]
) -> None:
    with pytest.raises(error):
        OPENAI.foreign[operation].read(reply)


ROW = PROVIDERS["openrouter"]
RENAMES = replace(ROW, token_limit_param="max_completion_tokens")  # noqa: S106 — not a secret


@pytest.mark.parametrize(
    ("row", "chat", "sent"),
    [
        (ROW, {"max_tokens": 7}, {"max_tokens": 7}),
        (ROW, {"max_completion_tokens": 7}, {"max_tokens": 7}),
        (ROW, {"max_completion_tokens": 7, "max_tokens": 8}, {"max_tokens": 8}),
        (
            RENAMES,
            {"max_tokens": 7, "seed": 1},
            {"max_completion_tokens": 7, "seed": 1},
        ),
        (replace(ROW, unsupported=frozenset({"seed"})), {"seed": 1, "n": 2}, {"n": 2}),
        (replace(ROW, unsupported=frozenset({"max_tokens"})), {"max_tokens": 1}, {}),
    ],
)
def test_a_row_renames_and_leaves_out_fields_of_native_requests(
    row: Provider, chat: dict[str, Any], sent: dict[str, Any]
) -> None:
    native: ItemRequest = {"provider": "p", "model": "m", "chat": chat}

    assert orjson.loads(encode(row, OPENAI.native, native)) == {"model": "m", **sent}


def test_a_foreign_body_is_sent_as_it_was_written() -> None:
    row = replace(RENAMES, unsupported=frozenset({"seed", "z"}))
    body = ['{ "z":1E+2, "model" : ', ',\t"max_tokens":7.0,"seed":1,"é":"\\u00e9"}']
    foreign: ItemRequest = {"provider": "p", "model": 'a "b"', "operation": "chat", "body": body}

    sent = encode(row, OPENAI.foreign[Operation.CHAT], foreign)

    assert sent.decode() == f'{body[0]}"a \\"b\\""{body[1]}'


# Chat completions as vendors document them, with the fields in which they differ.
VENDORS: dict[str, tuple[dict[str, Any], str, set[str]]] = {
    "openai": (
        {
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "hi",
                        "refusal": None,
                        "annotations": [],
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "service_tier": "default",
            "system_fingerprint": None,
        },
        "hi",
        set(),
    ),
    "azure": (
        choices({"role": "assistant", "content": "hi"}, content_filter_results={"hate": {}})
        | {"prompt_filter_results": [{"prompt_index": 0}]},
        "hi",
        set(),
    ),
    "openrouter": (
        choices(
            {"role": "assistant", "content": "hi", "reasoning": "hm", "reasoning_details": [{}]},
            native_finish_reason="STOP",
        ),
        "hi",
        {"reasoning", "reasoning_details"},
    ),
    "deepseek": (
        choices({"role": "assistant", "content": "hi", "reasoning_content": "hm"}),
        "hi",
        {"reasoning_content"},
    ),
    "vllm": (
        choices(
            {
                "role": "assistant",
                "content": "hi",
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "tool_calls": [],
                "reasoning_content": None,
            },
            stop_reason=None,
            token_ids=None,
        ),
        "hi",
        set(),
    ),
    "mistral": (
        choices(
            {
                "role": "assistant",
                "tool_calls": None,
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "hi"},
                ],
            }
        ),
        "hi",
        {"content"},
    ),
    "perplexity": (
        choices({"role": "assistant", "content": "hi"}) | {"citations": ["https://x.test"]},
        "hi",
        set(),
    ),
    "a tool call": (
        choices({"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}),
        "",
        {"tool_calls"},
    ),
    "audio": (
        choices({"role": "assistant", "content": None, "audio": {"id": "a", "transcript": "hi"}}),
        "",
        {"audio"},
    ),
}


@pytest.mark.parametrize(("reply", "content", "more"), list(VENDORS.values()), ids=list(VENDORS))
def test_the_chat_completions_of_vendors(
    reply: dict[str, Any], content: str, more: set[str]
) -> None:
    answer, _ = OPENAI.native.read(reply)

    message = reply["choices"][0]["message"]
    assert answer.content == content
    assert answer.message == (message if more else None)
    assert more <= message.keys()
