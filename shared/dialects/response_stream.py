"""Reads a streamed response of OpenAI's Responses API.

The last event of the stream has the whole response.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import Mapping
from typing import Any

import orjson

from shared.dialects.dialect import ErrorInBody, Unfinished
from shared.dialects.error_in_body import BAD_GATEWAY, raise_error
from shared.dialects.json_text import read_json
from shared.dialects.sse import Event
from shared.dialects.stream import END
from shared.dialects.values import record

_LAST = {"response.completed", "response.incomplete", "response.failed"}


class ResponseStream:
    def __init__(self, _stream_options: Mapping[str, Any]) -> None:
        self._response: dict[str, Any] | None = None

    def read(self, event: Event) -> list[bytes]:
        if event.data.strip() == END:  # some servers send this event here, too
            return []
        value = record(read_json(event.data.encode())[0])
        kind = value.get("type") or event.name
        raise_error(value.get("error"))
        if kind == "error":
            raise ErrorInBody(BAD_GATEWAY, value)
        if kind in _LAST:
            self._response = record(value.get("response"))
        return [event.encode()]

    def end(self) -> tuple[list[bytes], dict[str, Any]]:
        if self._response is None:
            raise Unfinished("the stream ended early")
        return [], self._response


def whole_response(response: Mapping[str, Any]) -> list[bytes]:
    """Returns the events of a response that was not streamed: only `response.completed`."""
    event = {"type": "response.completed", "sequence_number": 0, "response": response}
    return [Event("response.completed", orjson.dumps(event).decode()).encode()]
