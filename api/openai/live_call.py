"""Runs each live call of OpenAI's API as a job of one item, and waits for the answer.

The response begins when the whole answer is known, because its status depends on the answer. Only a
streamed response begins with the first part of the answer, or after `HEADERS_AFTER_S`. Then the
comments of server-sent events keep the connection open.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from fastapi import Request, Response

from api.asgi_scope import MEMORY
from api.disconnect import cancel_on_disconnect
from api.errors.exception_types import ClientDisconnected
from api.errors.openai_call_errors import call_error, stopped
from api.jobs.job_starter import MIN_RETRY_S, JobStarter
from api.media_types import EVENT_STREAM, JSON
from api.openai.answer_body import answer_body
from api.openai.answer_stream import NewAnswerStream
from api.openai.call_request import call_digest, read_call
from api.requests.body import read_json, require_media_type
from api.requests.vendor_requests import VendorOptions
from api.streams.result_stream import ResultStream
from api.streams.stream_response import StreamResponse
from shared.dialects.dialect import Operation
from shared.event_loop_yield import pause_after
from shared.jobs.new_item import NewItem
from shared.jobs.submission import Submission
from shared.jobs.views import StoredJob
from shared.memory_budget import Reservation
from shared.models import LLMResponse
from shared.providers import Catalogue
from shared.settings import Settings

# A client decides how long it waits. This limit is for clients that have vanished without closing
# the connection.
MAX_WAIT_S = 86_400.0
HEADERS_AFTER_S = 10.0  # a failure before this time gets an HTTP status, so that clients retry


@dataclass(frozen=True, slots=True)
class LiveCall:
    """Holds one HTTP request to an endpoint of OpenAI's API that returns a provider's answer.

    key: the idempotency key; None if the client has sent no key.
    is_repetition: whether the client sends the request again because it got no response.
    wait_for_disconnect: returns when the client has disconnected.
    """

    request: Request
    owner: str
    key: str | None
    options: VendorOptions
    is_repetition: bool
    wait_for_disconnect: Callable[[], Awaitable[None]]

    @property
    def memory(self) -> Reservation:
        """Returns the memory that is reserved for the body, and then for the answer."""
        reservation: Reservation = self.request.scope[MEMORY]
        return reservation


class LiveCalls:
    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        starter: JobStarter,
        results: ResultStream,
        new_answer_stream: NewAnswerStream,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._starter = starter
        self._results = results
        self._new_answer_stream = new_answer_stream

    async def answer(self, operation: Operation, call: LiveCall) -> Response:
        """Returns the provider's answer, as a stream if the client asks for a stream.

        Raises OpenAIError, also if the call fails; HTTPException 400, 408, 413 and 415; MemoryFull;
        and everything that `JobStarter.run` raises.
        """
        settings = self._settings
        require_media_type(call.request, (JSON,))
        body = await read_json(call.request, settings.max_body_bytes, "MAX_BODY_BYTES")
        items = [
            read_call(body, operation, self._catalogue, settings.default_provider, call.options)
        ]
        await pause_after(len(body))
        submission = Submission(
            owner=call.owner,
            idempotency_key=call.key,
            body_digest=call_digest(body, operation, call.options),
            interactive=True,
            is_live=True,
            is_repetition=call.is_repetition,
        )
        await pause_after(len(body))
        del body  # the client may wait for minutes, and only Redis needs the request now
        if "stream" in items[0].request:
            return await self._stream(operation, call, items, submission)
        job = await self._starter.run(
            _submitted(items, call),
            submission,
            wait_s=MAX_WAIT_S,
            wait_for_disconnect=call.wait_for_disconnect,
        )
        return await self._response(operation, call, job, submission)

    async def _stream(
        self, operation: Operation, call: LiveCall, items: list[NewItem], submission: Submission
    ) -> StreamResponse:
        options = items[0].request["stream"]
        job = await self._starter.start(
            _submitted(items, call), submission, wait_for_disconnect=call.wait_for_disconnect
        )
        abandon = partial(self._starter.abandon, job.job_id, submission)

        async def answer() -> LLMResponse | None:
            known = await self._starter.status(job.job_id, submission, retry_for_s=MIN_RETRY_S)
            if not known.has_ended:
                await abandon()
            return await self._results.answer(known, call.memory)

        stream = self._new_answer_stream(job.job_id, operation, options, answer)
        try:
            await cancel_on_disconnect(call.wait_for_disconnect(), stream.begin(HEADERS_AFTER_S))
        except ClientDisconnected:
            await abandon()
            raise
        return StreamResponse(
            stream.chunks(),
            EVENT_STREAM,
            headers={"Location": f"/jobs/{job.job_id}"},
            on_disconnect=abandon,
        )

    async def _response(
        self, operation: Operation, call: LiveCall, job: StoredJob, submission: Submission
    ) -> Response:
        answer = await self._results.answer(job, call.memory)
        if answer is None:
            # The job stays for a while, so that a repetition at another API process gets it.
            await self._starter.abandon(job.job_id, submission)
            raise stopped()
        if answer.error is not None:
            raise call_error(answer)
        return Response(
            answer_body(operation, answer, job.job_id),
            media_type=JSON,
            headers={"Location": f"/jobs/{job.job_id}"},
        )


async def _submitted(items: list[NewItem], call: LiveCall) -> AsyncIterator[NewItem]:
    """Yields the only item, and then releases the memory that was reserved for the body."""
    yield items.pop()
    call.memory.resize(0)
