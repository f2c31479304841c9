"""Defines how a dialect reads an answer that the provider streams.

A reader gets the provider's events. It returns the events for the client. It also puts the whole
answer together. A worker reads this answer like an answer that was not streamed.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from shared.dialects.sse import Event

END = "[DONE]"  # data of the last event of a chat completion


class StreamReader(Protocol):
    def read(self, event: Event) -> list[bytes]:
        """Returns the encoded events that the client gets for this event; maybe none.

        Raises ErrorInBody, and ValueError if the event is not JSON.
        """

    def end(self) -> tuple[list[bytes], dict[str, Any]]:
        """Returns the last events for the client, and the whole answer, as without a stream.

        Raises Unfinished if the stream has ended early, and ValueError if a part of the answer is
        not JSON.
        """


# Creates a reader for the client's `stream_options`.
NewStreamReader = Callable[[Mapping[str, Any]], StreamReader]
