"""Tests how lines in the formats of OpenAI, Anthropic and Gemini become items."""

import json
from dataclasses import replace
from typing import Any

import pytest

from api.requests.formats import RequestFormat
from api.requests.vendor_line import InvalidLine
from api.requests.vendor_requests import VendorOptions, VendorRequests
from shared.jobs.new_item import NewItem
from shared.providers import Alias, Catalogue, Deployment, Provider

HELLO = [{"role": "user", "content": "hello"}]
ROWS = {
    row.name: row
    for row in (
        Provider("vendor", "https://vendor.test/v1"),
        Provider("lower", "https://lower.test/v1", model_case="lower"),
        Provider("claude", "https://claude.test", "anthropic"),
        Provider("google", "https://google.test/v1beta", "gemini"),
    )
}
CATALOGUE = Catalogue(
    ROWS,
    aliases={"fast": Alias((Deployment("vendor", "Big-Model"),))},
    configured=frozenset({"vendor", "lower", "claude", "google"}),
)


def convert(line: object, **options: Any) -> NewItem:
    text = line if isinstance(line, str) else json.dumps(line)
    requests = VendorRequests(CATALOGUE, "vendor", VendorOptions(**options))
    return requests.item(text.encode(), requests.format_of(text.encode()))


def sent(item: NewItem) -> str:
    """Returns the body that a worker sends."""
    return json.dumps(item.request["model"]).join(item.request["body"])


def envelope(body: object, url: str = "/v1/chat/completions", **fields: object) -> dict[str, Any]:
    return {"custom_id": "a", "method": "POST", "url": url, "body": body, **fields}


CHAT = {"model": "m", "messages": HELLO}


@pytest.mark.parametrize(
    ("line", "job_format", "provider", "operation", "request_id"),
    [
        (envelope(CHAT), "openai-batch", "vendor", "chat", "a"),
        (envelope(CHAT, "/chat/completions"), "openai-batch", "vendor", "chat", "a"),
        (envelope(CHAT, "/v4/chat/completions"), "openai-batch", "vendor", "chat", "a"),
        (envelope(CHAT, "/chat/completions/?api-version=1"), "openai-batch", "vendor", "chat", "a"),
        (
            envelope({"model": "m", "input": "x"}, "/v1/responses"),
            "openai-batch",
            "vendor",
            "responses",
            "a",
        ),
        (
            envelope({"model": "m", "input": [[1, 2]]}, "/v1/embeddings"),
            "openai-batch",
            "vendor",
            "embeddings",
            "a",
        ),
        (
            envelope({"contents": []}, "/v1beta/models/google/g-1:generateContent"),
            "openai-batch",
            "google",
            "generate_content",
            "a",
        ),
        (CHAT, "openai", "vendor", "chat", None),
        ({"model": "m", "input": "x"}, "openai", "vendor", "responses", None),
        ({"model": "text-Embedding-3", "input": "x"}, "openai", "vendor", "embeddings", None),
        ({**CHAT, "custom_id": "b"}, "openai", "vendor", "chat", "b"),
        ({**CHAT, "provider": {"order": ["x"]}}, "openai", "vendor", "chat", None),
        ({**CHAT, "model": "claude/c-1"}, "anthropic", "claude", "messages", None),
        (
            {"custom_id": "c", "params": {**CHAT, "model": "claude/c-1"}},
            "anthropic-batch",
            "claude",
            "messages",
            "c",
        ),
        (
            {"key": "k", "request": {"contents": [], "model": "google/g-1"}},
            "gemini-batch",
            "google",
            "generate_content",
            "k",
        ),
        ({"contents": [], "model": "google/g-1"}, "gemini", "google", "generate_content", None),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_formats(
    line: dict[str, Any], job_format: str, provider: str, operation: str, request_id: str | None
) -> None:
    item = convert(line)

    assert (item.format, item.request_id) == (job_format, request_id)
    assert (item.request["provider"], item.request["operation"]) == (provider, operation)


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "m", "messages": [], "seed": 12345678901234567890123, "top_p": 1.10}',
        '{"messages":[],"model":"m","temperature":1E-2}',
        '{ "messages" : [ {"content": "\\ud83d \\u00e9 é"} ] , "model" : "m" }',
        '{"model":"m","messages":[],"metadata":{"a":"b"},"x":null}',
        '{"\\u006dodel":"m","messages":[]}',
    ],
)
def test_nothing_but_the_model_changes(body: str) -> None:
    line = f'{{"custom_id": "a", "url": "/v1/chat/completions", "body": {body}}}'

    changed = sent(convert(line, model="other"))

    kept = [" ", "\n"]
    expected = body.replace('"m"', '"other"')
    for space in kept:
        expected, changed = expected.replace(space, ""), changed.replace(space, "")
    assert changed == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"stream":true,"model":"m","messages":[]}', '{"model":"m","messages":[]}'),
        ('{"model":"m","messages":[],"stream":false}', '{"model":"m","messages":[]}'),
        (
            '{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}',
            '{"model":"m","messages":[]}',
        ),
    ],
)
def test_stream_is_left_out(body: str, expected: str) -> None:
    assert sent(convert(body)) == expected


def test_a_body_without_a_model_gets_the_one_beside_it() -> None:
    assert sent(convert({"messages": []}, model="m")) == '{"model":"m","messages":[]}'


def test_the_model_of_a_gemini_body_is_in_the_url() -> None:
    item = convert({"key": "k", "request": {"model": "google/g-1", "contents": [1.0]}})

    assert item.request["model"] == "g-1"
    assert item.request["body"] == ['{"contents":[1.0]}']


@pytest.mark.parametrize(
    ("model", "options", "provider", "name"),
    [
        ("org/Model", {}, "vendor", "org/Model"),
        ("lower/Org/Model", {}, "lower", "org/model"),
        ("vendor/vendor/M", {}, "vendor", "vendor/M"),
        ("lower/Model", {"provider": "vendor"}, "vendor", "lower/Model"),
        ("fast", {}, "vendor", "Big-Model"),
        ("anything", {"model": "fast"}, "vendor", "Big-Model"),
        ("anything", {"model": "lower/X", "provider": "lower"}, "lower", "lower/x"),
    ],
)
def test_provider_and_model(model: str, options: dict[str, str], provider: str, name: str) -> None:
    item = convert({"model": model, "messages": HELLO}, **options)

    assert (item.request["provider"], item.request["model"]) == (provider, name)


def test_metadata_beside_the_body_is_kept_and_not_sent() -> None:
    bare = convert('{"model":"m","input":"x","metadata":{"row": 1.50}}')
    in_envelope = convert(
        '{"url":"/v1/responses","body":{"model":"m","input":"x","metadata":{"a":"b"}},'
        '"metadata":{"row":\n1e3}}'
    )

    assert (bare.metadata, sent(bare)) == ('{"row": 1.50}', '{"model":"m","input":"x"}')
    assert in_envelope.metadata == '{"row": 1e3}'
    assert sent(in_envelope) == '{"model":"m","input":"x","metadata":{"a":"b"}}'


def claude(content: str = "x", **fields: Any) -> dict[str, Any]:
    """Returns a line whose body is translated."""
    message = {"role": "user", "content": content}
    return envelope({"model": "claude/c-1", "messages": [message], **fields})


def tool(parameters: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": {"x": parameters}}}


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("line", "path", "reason"),
    [
        ("7", (), "must be a JSON object"),
        ('"a prompt"', (), "must be a JSON object"),
        ("[]", (), "must be a JSON object"),
        ('{"model": "m"', (), "invalid at character"),
        ('{"model": "m", "messages": [NaN]}', (), "NaN is not a JSON value"),
        ('{"model": "m", "model": "n", "messages": []}', (), '"model" occurs twice'),
        ('{"model": "m", "messages": [' + "[" * 100_000, (), "nested too deeply"),
        ('{"model": "m", "messages": [' + "9" * 5000 + "]}", (), "too many digits"),
        ("{}", (), "none of the accepted formats"),
        ({"model": "m"}, (), "none of the accepted formats"),
        ({f"field {n}": n for n in range(10_001)}, (), "more than 10000 fields"),
        (envelope([CHAT]), ("body",), "must be an object"),
        (envelope(json.dumps(CHAT)), ("body",), "must be an object"),
        ({"custom_id": "a", "params": None}, ("params",), "must be an object"),
        (claude(content="\ud800"), ("body",), "half of a UTF-16 surrogate pair"),
        (claude(max_tokens=10**30), ("body",), "more than 64 bits"),
        (claude(tools=[tool(nested(300))]), ("body",), "more than 250 nested arrays and objects"),
        (json.dumps(claude(top_p=77)).replace("77", "1e999"), ("body",), "more than 64 bits"),
        ({"model": "m", "prompt": "x"}, (), "orchestrator submit --field prompt"),
        ({"messages": HELLO}, ("model",), "the body has no `model`"),
        ({"messages": HELLO, "model": 7}, ("model",), "must be a string of 1 to 256 characters"),
        ({"messages": HELLO, "model": " "}, ("model",), "must be a string"),
        ({"messages": HELLO, "model": "\ud800"}, ("model",), "must be a string"),
        (envelope({"messages": HELLO}), ("body", "model"), "the body has no `model`"),
        (envelope({"model": "m"}), ("body",), "must have `messages`"),
        (envelope({"model": "m"}, "/v1/responses"), ("body",), "must have `input` or `prompt`"),
        (envelope(CHAT, "/v1/images/generations"), ("url",), "the URL must end in"),
        (envelope(CHAT, method="GET"), ("method",), "must be POST"),
        (envelope(CHAT, customid="a"), ("customid",), "unknown field; a line with `body`"),
        (envelope(CHAT, custom_id=7), ("custom_id",), "must be a string"),
        (envelope(CHAT, custom_id="x" * 257), ("custom_id",), "must be a string"),
        (envelope(CHAT, metadata=[]), ("metadata",), "must be an object"),
        (
            envelope(CHAT, metadata={"a": "\ud800"}),
            ("metadata",),
            "half of a UTF-16 surrogate pair",
        ),
        (envelope(CHAT, metadata={"a": "x" * 20_000}), ("metadata",), "at most 16384 bytes"),
        (envelope(CHAT, "/v1/messages"), ("body",), "vendor does not take a body for messages"),
        (
            {"key": "k", "request": {"contents": [], "model": "google/gemini-embedding-1"}},
            ("model",),
            "embedContent is not supported",
        ),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_refuses(line: object, path: tuple[str, ...], reason: str) -> None:
    with pytest.raises(InvalidLine, match=reason) as caught:
        convert(line)

    assert caught.value.path == path


def test_a_line_of_another_format_is_refused() -> None:
    requests = VendorRequests(CATALOGUE, "vendor", VendorOptions())

    with pytest.raises(InvalidLine, match="has the format openai, but the first line has"):
        requests.item(json.dumps(CHAT).encode(), RequestFormat.OPENAI_BATCH)


def test_the_client_can_name_the_format() -> None:
    as_chat = convert({"model": "claude/c-1", "messages": HELLO}, format=RequestFormat.OPENAI)

    assert as_chat.request["operation"] == "chat"


SEED = {"model": "claude/c-1", "messages": HELLO, "seed": 1}


def test_what_has_no_translation_is_refused_with_the_field() -> None:
    with pytest.raises(InvalidLine, match="claude cannot take this: Anthropic has no") as caught:
        convert(envelope(SEED))

    assert caught.value.path == ("body", "seed")


def test_what_the_row_leaves_out_needs_no_translation() -> None:
    row = replace(ROWS["claude"], unsupported=frozenset({"seed"}))
    catalogue = replace(CATALOGUE, rows={**ROWS, "claude": row})

    item = VendorRequests(catalogue, "vendor", VendorOptions()).item(
        json.dumps(envelope(SEED)).encode(), RequestFormat.OPENAI_BATCH
    )

    assert item.request["operation"] == "chat"
