"""Tests the ranges and the defaults of each field of a batch."""

import json
from copy import deepcopy
from typing import Any

import pytest
from pydantic import ValidationError

from shared.jobs.new_item import InexactNumber, native_item
from shared.models import BatchLLMRequest, ErrorCode, LLMRequest, Message, Role
from shared.queue.item_results import Result, parse_stored

MESSAGE = {"role": "user", "content": "hello"}
REQUEST = {"provider": "openrouter", "model": "m", "messages": [MESSAGE]}
NAN, INFINITY = float("nan"), float("inf")

Loc = tuple[str | int, ...]


def batch(*changes: dict[str, Any]) -> dict[str, Any]:
    """Returns a batch with one request per change: a valid request with the change applied."""
    return {"requests": [deepcopy(REQUEST) | change for change in changes]}


def message(**changes: object) -> dict[str, Any]:
    return {"messages": [MESSAGE | changes]}


def without(name: str, document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


def parse(document: object) -> BatchLLMRequest:
    return BatchLLMRequest.model_validate_json(json.dumps(document))


def problems(text: str | bytes) -> list[tuple[Loc, str]]:
    with pytest.raises(ValidationError) as caught:
        BatchLLMRequest.model_validate_json(text)
    return [(error["loc"], error["type"]) for error in caught.value.errors()]


def test_defaults_are_those_of_the_contract() -> None:
    assert parse(batch({})) == BatchLLMRequest(
        requests=[
            LLMRequest(
                provider="openrouter",
                model="m",
                messages=[Message(role=Role.USER, content="hello")],
                temperature=0.7,
                max_tokens=1000,
                request_id=None,
            )
        ]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "openrouter"},
        {"provider": "ollama"},
        {"temperature": 0.0},
        {"temperature": 0},
        {"temperature": 2.0},
        {"temperature": 2},
        {"max_tokens": 1},
        {"max_tokens": 1.0},
        {"max_tokens": 32_000},
        {"request_id": None},
        {"request_id": "req-1"},
        {"request_id": ""},
        {"model": "deepseek-r1:8b"},
        {"messages": [MESSAGE] * 50},
        message(role="system"),
        message(role="user"),
        message(role="assistant"),
        message(content="x"),
        message(content="x" * 50_000),
        message(content="😀" * 50_000),
        message(content=" \n x"),
        message(content="\0"),
        message(role="assistant", content="", tool_calls=[{"id": "c"}]),
        message(role="assistant", content="\n\n", tool_calls=[{"id": "c"}]),
        message(role="assistant", content="", refusal="No."),
        message(role="assistant", thinking_blocks=[{"type": "thinking"}]),
        message(role="tool", content="", tool_call_id="c"),
        message(role="tool", content=" \n", tool_call_id="c"),
    ],
    ids=lambda change: repr(change)[:60],
)
def test_accepts(change: dict[str, Any]) -> None:
    [request] = parse(batch(change)).requests

    assert request.model_dump(mode="json", exclude_unset=True) == REQUEST | change


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ('"seed": 12345678901234567890123', ("seed",)),
        ('"n": 1e30', ("n",)),
        ('"extra_body": {"a": {"b": [-9223372036854775809]}}', ("extra_body", "a")),
        ('"extra_body": {"a": 1e999}', ("extra_body", "a")),
        ('"tools": [{"x": 18446744073709551616}]', ("tools",)),
        (
            '"messages": [{"role": "user", "content": [{"type": "t", "x": 1e999}]}]',
            ("messages", 0, "content"),
        ),
        (
            '"messages": [{"role": "assistant", "tool_calls": [{"x": 1e999}]}]',
            ("messages", 0),
        ),
    ],
)
def test_a_number_that_would_change_is_refused(change: str, path: Loc) -> None:
    text = json.dumps(REQUEST)[:-1]
    if change.startswith('"messages"'):
        text = json.dumps(without("messages", REQUEST))[:-1]
    request = LLMRequest.model_validate_json(f"{text}, {change}}}")

    with pytest.raises(InexactNumber, match="64 bits") as caught:
        native_item(request)

    assert caught.value.path == path


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 2**64 - 1, "logit_bias": {"50256": -100, "1": 0.5}},
        {"extra_body": {"provider": {"order": ["x"]}, "request_id": "r", "x": -(2**63)}},
    ],
)
def test_fields_are_sent_as_they_were_written(fields: dict[str, Any]) -> None:
    [request] = parse(batch(fields)).requests

    chat = native_item(request).request["chat"]

    expected = {name: value for name, value in fields.items() if name != "extra_body"}
    expected |= fields.get("extra_body", {})
    assert json.dumps({name: chat[name] for name in expected}) == json.dumps(expected)


@pytest.mark.parametrize("count", [1, 100])
def test_accepts_batches_of(count: int) -> None:
    assert len(parse(batch(*[{}] * count)).requests) == count


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("DeepSeek-R1:8B", "deepseek-r1:8b"),
        ("Google/Gemma-3-27B-it:FREE", "google/gemma-3-27b-it:free"),
        ("ÄÖ", "äö"),
    ],
)
def test_model_is_lower_cased(given: str, sent: str) -> None:
    [request] = parse(batch({"model": given})).requests

    assert native_item(request).request["model"] == sent


@pytest.mark.parametrize(
    ("change", "loc", "kind"),
    [
        ({"provider": "opnai"}, ("provider",), "provider"),
        ({"provider": "OpenRouter"}, ("provider",), "provider"),
        ({"provider": ""}, ("provider",), "provider"),
        ({"provider": 1}, ("provider",), "string_type"),
        ({"provider": None}, ("provider",), "string_type"),
        ({"model": ""}, ("model",), "string_too_short"),
        ({"model": " \t\n"}, ("model",), "blank"),
        ({"model": "m" * 257}, ("model",), "string_too_long"),
        ({"model": 7}, ("model",), "string_type"),
        ({"messages": []}, ("messages",), "too_short"),
        ({"messages": {}}, ("messages",), "list_type"),
        ({"messages": None}, ("messages",), "list_type"),
        ({"messages": "hello"}, ("messages",), "list_type"),
        ({"messages": [None]}, ("messages", 0), "model_type"),
        ({"messages": [MESSAGE, "hello"]}, ("messages", 1), "model_type"),
        ({"messages": [MESSAGE, {"role": "user"}]}, ("messages", 1, "content"), "missing"),
        ({"messages": [{"content": "hello"}]}, ("messages", 0, "role"), "missing"),
        (message(role="User"), ("messages", 0, "role"), "enum"),
        (message(role=None), ("messages", 0, "role"), "enum"),
        (message(content=""), ("messages", 0, "content"), "string_too_short"),
        (message(content=" "), ("messages", 0, "content"), "blank"),
        (message(content="\n\t\u00a0\u2003"), ("messages", 0, "content"), "blank"),
        (message(content="x" * 50_001), ("messages", 0, "content"), "string_too_long"),
        (message(content="😀" * 50_001), ("messages", 0, "content"), "string_too_long"),
        (message(content=None), ("messages", 0, "content"), "string_type"),
        (message(content=["hello"]), ("messages", 0, "content"), "content_parts"),
        (message(content=[]), ("messages", 0, "content"), "content_parts"),
        (message(content=[{"text": "x"}]), ("messages", 0, "content"), "content_parts"),
        (
            message(content=[{"type": "text", "text": "x" * 50_001}]),
            ("messages", 0, "content"),
            "content_parts",
        ),
        (
            message(role="assistant", tool_calls=[], content=None),
            ("messages", 0, "content"),
            "string_type",
        ),
        (
            message(role="assistant", tool_calls=[], content=""),
            ("messages", 0, "content"),
            "string_too_short",
        ),
        (
            message(role="assistant", tool_calls=[{}], content=" " * 50_001),
            ("messages", 0, "content"),
            "string_too_long",
        ),
        (
            message(role="tool", content=" " * 50_001),
            ("messages", 0, "content"),
            "string_too_long",
        ),
        (message(role="function"), ("messages", 0, "role"), "enum"),
        (message(nickname="Ann"), ("messages", 0, "nickname"), "extra_forbidden"),
        ({"top_k": 5}, ("top_k",), "extra_forbidden"),
        ({"top_p": 1.1}, ("top_p",), "less_than_equal"),
        ({"n": 0}, ("n",), "greater_than_equal"),
        ({"extra_body": {"model": "m"}}, ("extra_body",), "extra_body"),
        ({"extra_body": {"stream": True}}, ("extra_body",), "extra_body"),
        ({"extra_body": {"extra_body": {}}}, ("extra_body",), "extra_body"),
        ({"temperature": -0.1}, ("temperature",), "greater_than_equal"),
        ({"temperature": 2.1}, ("temperature",), "less_than_equal"),
        ({"temperature": NAN}, ("temperature",), "finite_number"),
        ({"temperature": INFINITY}, ("temperature",), "finite_number"),
        ({"temperature": -INFINITY}, ("temperature",), "finite_number"),
        ({"temperature": "0.7"}, ("temperature",), "float_type"),
        ({"temperature": True}, ("temperature",), "float_type"),
        ({"max_tokens": 0}, ("max_tokens",), "greater_than_equal"),
        ({"max_tokens": -1}, ("max_tokens",), "greater_than_equal"),
        ({"max_tokens": 32_001}, ("max_tokens",), "less_than_equal"),
        ({"max_tokens": 10**30}, ("max_tokens",), "less_than_equal"),
        ({"max_tokens": 1.5}, ("max_tokens",), "int_type"),
        ({"max_tokens": "100"}, ("max_tokens",), "int_type"),
        ({"max_tokens": True}, ("max_tokens",), "int_type"),
        ({"max_tokens": NAN}, ("max_tokens",), "int_type"),
        ({"request_id": 1}, ("request_id",), "string_type"),
        ({"request_id": "x" * 257}, ("request_id",), "string_too_long"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_refuses_naming_index_and_field(change: dict[str, Any], loc: Loc, kind: str) -> None:
    document = json.dumps(batch({}, change))

    assert problems(document) == [(("requests", 1, *loc), kind)]


@pytest.mark.parametrize("field", ["provider", "model", "messages"])
def test_refuses_request_without(field: str) -> None:
    document = json.dumps({"requests": [REQUEST, without(field, REQUEST)]})

    assert problems(document) == [(("requests", 1, field), "missing")]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, (("requests",), "missing")),
        ({"requests": []}, (("requests",), "too_short")),
        (batch(*[{}] * 101), (("requests",), "too_long")),
        ({"requests": None}, (("requests",), "list_type")),
        ({"requests": REQUEST}, (("requests",), "list_type")),
        ({"requests": [None]}, (("requests", 0), "model_type")),
        ({"requests": [REQUEST, [REQUEST]]}, (("requests", 1), "model_type")),
        (batch({}) | {"model": "m"}, (("model",), "extra_forbidden")),
        ([], ((), "model_type")),
        (None, ((), "model_type")),
        ("requests", ((), "model_type")),
        (1, ((), "model_type")),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_refuses_batch(document: object, problem: tuple[Loc, str]) -> None:
    assert problems(json.dumps(document)) == [problem]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "requests",
        "{'requests': []}",
        '{"requests": [}',
        json.dumps(batch({})) + "}",
        json.dumps(batch({})).encode("utf-16"),
        json.dumps(batch({})).encode() + b"\xff",
        json.dumps(batch({})).replace("hello", "\udcff").encode(errors="surrogateescape"),
        json.dumps(batch({})).replace("hello", r"\ud800"),
        json.dumps(batch({})).replace("hello", r"\udc00\ud800"),
        json.dumps(batch({})).replace("hello", "\ud800").encode(errors="surrogatepass"),
        json.dumps(batch({})).replace("hello", "a\nb"),
        "[" * 100_000,
    ],
    ids=lambda text: repr(text)[:40],
)
def test_refuses_invalid_json(text: str | bytes) -> None:
    assert problems(text) == [((), "json_invalid")]


def test_every_error_is_reported() -> None:
    document = json.dumps(batch({"max_tokens": 0}, {}, {"model": "", "temperature": 3}))

    assert problems(document) == [
        (("requests", 0, "max_tokens"), "greater_than_equal"),
        (("requests", 2, "model"), "string_too_short"),
        (("requests", 2, "temperature"), "less_than_equal"),
    ]


def test_error_of_a_duplicate_request_id_names_both_requests() -> None:
    document = json.dumps(batch({"request_id": "a"}, {}, {"request_id": "b"}, {"request_id": "a"}))

    with pytest.raises(ValidationError) as caught:
        BatchLLMRequest.model_validate_json(document)

    assert [error["msg"] for error in caught.value.errors()] == [
        "requests[3].request_id must differ from requests[0].request_id"
    ]


def test_requests_without_id_are_not_duplicates() -> None:
    assert len(parse(batch({}, {"request_id": None}, {"request_id": "a"})).requests) == 3


def test_request_ids_are_case_sensitive() -> None:
    assert len(parse(batch({"request_id": "a"}, {"request_id": "A"})).requests) == 2


def test_a_result_of_a_newer_version_can_be_read() -> None:
    stored = b'7 {"error": "why", "error_code": "of_tomorrow", "attempts": 2, "a_new_field": 1}'

    _, fields = parse_stored(stored)

    expected = Result(error="why", error_code=ErrorCode.INTERNAL_ERROR, attempts=2)
    assert fields == {**expected.to_dict(), "a_new_field": 1}
