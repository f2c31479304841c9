"""Defines the request of an item, as the queue stores it and a worker sends it."""

from typing import Any, NotRequired, TypedDict


class ItemRequest(TypedDict):
    """Holds a request: native with `chat`, or foreign with `operation` and `body`.

    chat: the fields of an OpenAI chat request, without `model`, as the client wrote them.
    operation: the kind of the foreign body, a value of `shared.dialects.dialect.Operation`.
    body: the text of the foreign body, cut at the value of its field `model`: a worker sends the
        first part, the model's name as JSON, and the second part. A body without the field `model`
        has only one part, and is sent unchanged.
    stream: the client's `stream_options`, if the client reads the answer while it arrives.
    """

    provider: str
    model: str  # name of the model that the provider gets
    chain: NotRequired[str]  # where the item may move: see shared.queue.fallback_chain
    alias: NotRequired[str]  # what the client asked for, if the queue chooses the deployment
    chat: NotRequired[dict[str, Any]]
    operation: NotRequired[str]
    body: NotRequired[list[str]]
    stream: NotRequired[dict[str, Any]]
    traceparent: NotRequired[str]  # W3C Trace Context: https://www.w3.org/TR/trace-context/
