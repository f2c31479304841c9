"""Defines how a dialect reads an answer that the provider streams.

A reader gets the provider's events. It returns the events for the client, and puts the whole answer
together, which is read like an answer without a stream.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from shared.dialects.sse import Event

END = "[DONE]"  # data of the last event of a chat completion


class StreamReader(Protocol):
    def read(self, event: Event) -> list[bytes]:
        """Returns encoded events for the client.

        Raises ErrorInBody, Unfinished, and ValueError if the event is not JSON.
        """

    def end(self) -> tuple[list[bytes], dict[str, Any]]:
        """Returns the last events for the client, and the whole answer, as without a stream.

        Raises Unfinished if the stream has ended early.
        """


# Creates a reader for the client's `stream_options`.
NewStreamReader = Callable[[Mapping[str, Any]], StreamReader]
