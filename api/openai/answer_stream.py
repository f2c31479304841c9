"""Streams the answer of a live call to a client, while the worker gets it from the provider.

The parts of the answer stay in Redis while the call runs, so that every client gets all of them,
even a client that joins later.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from time import monotonic
from typing import Any

import orjson

from api.errors.openai_call_errors import call_error, stopped
from api.errors.openai_errors import OpenAIError, error_content
from api.redis_retry import STREAM_RETRY_S, redis_retry
from api.streams.job_updates import JobUpdates, ResettableEvent
from shared.dialects.chat_stream import whole_chat
from shared.dialects.dialect import Operation
from shared.dialects.response_stream import whole_response
from shared.dialects.sse import Event
from shared.dialects.stream import END
from shared.models import LLMResponse
from shared.queue.deltas import Deltas, Parts

READ_AGAIN_S = 5.0  # time after which a stream reads again, because a message may be lost
_LOST = (
    "the rest of the stream has expired, because it was read too slowly; the job at the URL in the"
    " Location header has the whole answer"
)

ReadResult = Callable[[], Awaitable[LLMResponse | None]]


class AnswerStream:
    """Streams the answer of one call to one client.

    answer: returns the result of the call, or None if its job has not ended.
    """

    def __init__(
        self,
        deltas: Deltas,
        updates: JobUpdates,
        job_id: str,
        operation: Operation,
        options: Mapping[str, Any],
        answer: ReadResult,
    ) -> None:
        self._deltas = deltas
        self._updates = updates
        self._job_id = job_id
        self._operation = operation
        self._options = options
        self._answer = answer
        self._position = 0
        self._parts: list[bytes] = []  # parts that were read, but not sent yet
        self._are_lost = self._has_ended = False

    async def begin(self, wait_s: float) -> None:
        """Waits until the answer begins or the call fails, but at most `wait_s`.

        Call this before the response begins: then the status of the response can still be an error.
        Raises OpenAIError if no part of an answer has arrived, and the call has failed or this
        process stops.
        """
        until = monotonic() + wait_s
        with self._updates.subscribe(self._job_id) as changes:
            while not await self._read() and (left_s := until - monotonic()) > 0:
                if self._updates.closed:
                    break
                await self._wait(changes, left_s)
        if not self._position and (self._has_ended or self._updates.closed):
            answer = await self._answer()
            if answer is None:
                raise stopped()
            if answer.error is not None:
                raise call_error(answer)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yields the events of the answer, in chunks of whole events. The last may be an error."""
        with self._updates.subscribe(self._job_id) as changes:
            while True:
                if self._parts:
                    yield b"".join(self._parts)
                    self._parts.clear()
                if self._has_ended or self._updates.closed:
                    break
                if not await self._read():
                    await self._wait(changes, READ_AGAIN_S)
        yield await self._end()

    async def _read(self) -> bool:
        """Reads further parts. Returns true if there were any, or if the job has ended."""
        read: Parts = await redis_retry(STREAM_RETRY_S)(
            self._deltas.read, self._job_id, self._position
        )
        self._position += len(read.parts)
        self._parts += read.parts
        self._are_lost, self._has_ended = read.are_lost, read.has_ended
        return bool(read.parts) or read.has_ended

    async def _wait(self, changes: ResettableEvent, seconds: float) -> None:
        await changes.wait(min(seconds, READ_AGAIN_S))

    async def _end(self) -> bytes:
        answer = await self._answer()
        if answer is None:
            return self._error(stopped())
        if answer.error is not None:
            return self._error(call_error(answer))
        if self._are_lost and self._position:
            return self._error(OpenAIError(HTTPStatus.INTERNAL_SERVER_ERROR, _LOST))
        events = [] if self._position else self._whole(answer)
        if self._operation is Operation.CHAT:
            events.append(Event("", END).encode())
        return b"".join(events)

    def _whole(self, answer: LLMResponse) -> list[bytes]:
        """Returns the events of an answer of which this client has got no part."""
        body = orjson.loads(answer.body or "{}")
        if self._operation is Operation.CHAT:
            return whole_chat(body, self._options)
        return whole_response(body)

    def _error(self, error: OpenAIError) -> bytes:
        """Returns the event that makes OpenAI's clients raise an exception."""
        content = error_content(error)
        if self._operation is Operation.CHAT:
            return Event("", orjson.dumps({"error": content}).decode()).encode()
        data = {**content, "type": "error", "sequence_number": self._position, "error": content}
        return Event("error", orjson.dumps(data).decode()).encode()


# Arguments: job id, operation, the client's `stream_options`, and `answer` of AnswerStream.
NewAnswerStream = Callable[[str, Operation, Mapping[str, Any], ReadResult], AnswerStream]
