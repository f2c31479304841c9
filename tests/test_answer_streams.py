"""Tests how streamed answers are read: events, chunks of chat completions, responses."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from shared.dialects.anthropic_answer import to_chat
from shared.dialects.anthropic_stream import MessageStream
from shared.dialects.chat_stream import ChatStream, whole_chat
from shared.dialects.dialect import ErrorInBody, Unfinished
from shared.dialects.response_stream import ResponseStream
from shared.dialects.sse import Event, EventParser

TEXT = (
    b'\xef\xbb\xbf: comment\n\ndata: {"a":1}\nid: 3\n\nevent: x\r\ndata:b\r\n\r\n'
    b"data: c\ndata: \xc3\xa9\n\ndata\n\nretry: 5\rdata: d\r\r"
)
EVENTS = [Event("", '{"a":1}'), Event("x", "b"), Event("", "c\né"), Event("", ""), Event("", "d")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(TEXT)])
def test_events_arrive_in_any_pieces(size: int) -> None:
    parser = EventParser()

    events = [
        event
        for start in range(0, len(TEXT), size)
        for event in parser.feed(TEXT[start : start + size])
    ]

    assert events + parser.end() == EVENTS


def test_an_event_is_written_as_it_is_read() -> None:
    written = b"".join(event.encode() for event in EVENTS)

    assert EventParser().feed(written) == EVENTS


def test_the_last_event_may_have_no_blank_line() -> None:
    parser = EventParser()

    assert parser.feed(b"data: a") == []
    assert parser.end() == [Event("", "a")]


HEAD = {"id": "i", "object": "chat.completion.chunk", "created": 7, "model": "m"}


def chunk(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**HEAD, "choices": list(choices), **fields}


def choice(delta: dict[str, Any], index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, **fields}


def read(stream: ChatStream, chunks: Iterable[Any]) -> list[Any]:
    """Returns what the client gets for the chunks."""
    encoded = [stream.read(Event("", orjson.dumps(c).decode())) for c in chunks]
    return [orjson.loads(event.removeprefix(b"data: ")) for events in encoded for event in events]


def call(index: int, **fields: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, **fields}]}


def test_a_chat_completion_is_put_together() -> None:
    chunks = [
        chunk(choice({"role": "assistant", "content": ""}), system_fingerprint="f"),
        chunk(choice({"content": "h"}, logprobs={"content": [{"token": "h"}]})),
        chunk(choice({"content": "i", "reasoning": "be"}, logprobs={"content": [{"token": "i"}]})),
        chunk(choice({"content": "other"}, 1), choice({"reasoning": "cause"})),
        chunk(choice(call(0, id="c0", type="function", function={"name": "f", "arguments": ""}))),
        chunk(choice(call(0, function={"arguments": '{"a"'}))),
        chunk(choice(call(1, id="c1", type="function", function={"name": "g", "arguments": "{}"}))),
        chunk(choice(call(0, id="", function={"name": None, "arguments": ":1}"}))),
        chunk(choice({}, finish_reason="tool_calls"), choice({}, 1, finish_reason="stop")),
        chunk(usage={"total_tokens": 3}),
    ]
    stream = ChatStream({"include_usage": True})

    shown = read(stream, chunks)
    last, answer = stream.end()

    assert (shown, last) == (chunks, [])
    assert answer == {
        **HEAD,
        "object": "chat.completion",
        "system_fingerprint": "f",
        "usage": {"total_tokens": 3},
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "hi",
                    "reasoning": "because",
                    "tool_calls": [
                        {
                            "id": "c0",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a":1}'},
                        },
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "g", "arguments": "{}"},
                        },
                    ],
                },
                "logprobs": {"content": [{"token": "h"}, {"token": "i"}]},
                "finish_reason": "tool_calls",
            },
            {
                "index": 1,
                "message": {"role": "assistant", "content": "other"},
                "logprobs": None,
                "finish_reason": "stop",
            },
        ],
    }


@pytest.mark.parametrize(
    ("asked", "chunks", "shown"),
    [
        (False, [chunk(usage={"total_tokens": 3})], []),
        (True, [chunk(usage={"total_tokens": 3})], [chunk(usage={"total_tokens": 3})]),
        (  # the provider has the usage in a chunk with a choice
            True,
            [chunk(choice({}), usage={"total_tokens": 3})],
            [
                chunk(choice({}), usage={"total_tokens": 3}),
                chunk(usage={"total_tokens": 3}),
            ],
        ),
        (True, [], []),
    ],
)
def test_the_usage_is_shown_if_it_is_asked_for(
    asked: bool,  # noqa: FBT001 — a parameter of the test
    chunks: list[Any],
    shown: list[Any],
) -> None:
    stream = ChatStream({"include_usage": asked})
    end = chunk(choice({"content": "a"}, finish_reason="stop"))

    first, *others = read(stream, [end, *chunks])
    last, answer = stream.end()

    assert first == end
    assert others + [orjson.loads(event.removeprefix(b"data: ")) for event in last] == shown
    assert answer.get("usage") == ({"total_tokens": 3} if chunks else None)


def test_a_chunk_gets_the_fields_that_clients_need() -> None:
    [shown] = read(ChatStream({}), [{"model": "m", "created": 7, "id": "i", "choices": None}])

    assert shown == chunk()


def test_a_chunk_keeps_every_digit() -> None:
    text = orjson.dumps(chunk()).decode()[:-1] + ',"x":1.0E+2}'

    assert ChatStream({}).read(Event("", text)) == [f"data: {text}\n\n".encode()]


def test_a_stream_that_ends_early_is_not_finished() -> None:
    stream = ChatStream({})
    read(stream, [chunk(choice({"content": "a"}))])

    with pytest.raises(Unfinished):
        stream.end()

    stream.read(Event("", "[DONE]"))
    assert stream.end()[1]["choices"][0]["message"]["content"] == "a"


def test_an_error_in_a_stream() -> None:
    with pytest.raises(ErrorInBody) as raised:
        read(ChatStream({}), [{"error": {"message": "no", "code": 503}}])

    assert raised.value.status_code == 503


def test_an_answer_without_a_stream_is_one_chunk() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    answer = {**HEAD, "object": "chat.completion", "usage": {"total_tokens": 3}}
    answer["choices"] = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]

    first, usage = whole_chat(answer, {"include_usage": True})
    stream = ChatStream({})
    stream.read(EventParser().feed(first)[0])

    assert orjson.loads(usage.removeprefix(b"data: ")) == chunk(usage={"total_tokens": 3})
    assert stream.end()[1]["choices"][0]["message"] == message
    assert len(whole_chat(answer, {})) == 1


def test_a_response_is_in_its_last_event() -> None:
    stream = ResponseStream({})
    delta = Event("response.output_text.delta", '{"type":"response.output_text.delta"}')
    end = Event("response.completed", '{"type":"response.completed","response":{"id":"r"}}')

    with pytest.raises(Unfinished):
        stream.end()
    assert stream.read(delta) == [delta.encode()]
    assert stream.read(end) == [end.encode()]
    assert stream.end() == ([], {"id": "r"})


@pytest.mark.parametrize("data", ['{"type":"error","message":"no"}', '{"error":{"message":"no"}}'])
def test_an_error_in_the_stream_of_a_response(data: str) -> None:
    with pytest.raises(ErrorInBody):
        ResponseStream({}).read(Event("error", data))


MESSAGE_EVENTS = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 1},
        },
    },
    {"type": "ping"},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    },
    *(
        {"type": "content_block_delta", "index": 0, "delta": delta}
        for delta in (
            {"type": "thinking_delta", "thinking": "because "},
            {"type": "thinking_delta", "thinking": "so"},
            {"type": "signature_delta", "signature": "sig"},
        )
    ),
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    *(
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": text}}
        for text in ("It ", "is")
    ),
    *(
        event
        for index, parts in ((2, ('{"city"', ':"Oslo"}')), (3, ()))
        for event in (
            {
                "type": "content_block_start",
                "index": index,
                "content_block": {"type": "tool_use", "id": f"t{index}", "name": "f", "input": {}},
            },
            *(
                {
                    "type": "content_block_delta",
                    "index": index,
                    "delta": {"type": "input_json_delta", "partial_json": part},
                }
                for part in parts
            ),
            {"type": "content_block_stop", "index": index},
        )
    ),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    },
    {"type": "message_stop"},
]


def test_a_message_of_anthropic_is_a_stream_of_chunks() -> None:
    """A client that puts the chunks together gets the same as without a stream."""
    stream, client = MessageStream({"include_usage": True}), ChatStream({})
    encoded = [
        event for e in MESSAGE_EVENTS for event in stream.read(Event("", orjson.dumps(e).decode()))
    ]
    last, message = stream.end()
    for event in (*encoded, *last):
        for parsed in EventParser().feed(event):
            client.read(parsed)
    _, streamed = client.end()

    whole = to_chat(message)
    del whole["choices"][0]["message"]["thinking_blocks"]  # only a whole answer has them
    thought = {"type": "thinking", "thinking": "because so", "signature": "sig"}
    assert message["content"][0] == thought
    assert message["content"][2]["input"] == {"city": "Oslo"}
    assert {**streamed, "created": None} == {**whole, "created": None}
    assert whole["usage"]["total_tokens"] == 16


def test_an_error_in_a_message_of_anthropic() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}

    with pytest.raises(ErrorInBody) as raised:
        MessageStream({}).read(Event("error", orjson.dumps(error).decode()))
    assert raised.value.status_code == 529
    with pytest.raises(Unfinished):
        MessageStream({}).end()
