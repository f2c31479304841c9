"""Tests the bodies that dialects send, and the answers of vendors, responses and embeddings."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from support.dialect_answers import choices, without_usage

from shared.dialects.dialect import Answer, Dialect, ErrorInBody, NoAnswer, Operation, Unfinished
from shared.dialects.ollama import OLLAMA
from shared.dialects.openai import OPENAI
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
