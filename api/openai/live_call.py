"""Runs a live call of OpenAI's API as a job of one item, and waits for the answer.

Nothing is sent before the answer is there, because the status of the response depends on it. A
stream begins with the answer, or after `HEADERS_AFTER_S`; comments then keep the connection open.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Header, Query, Request, Response

from api.batches import MIN_RETRY_S
from api.dependencies import DisconnectDep, OwnerDep, Services, ServicesDep
from api.disconnect import ClientDisconnected, cancel_on_disconnect
from api.media_types import EVENT_STREAM, JSON
from api.middleware.concurrency_limit import MEMORY
from api.openai.answer_body import answer_body
from api.openai.call_errors import call_error, stopped
from api.openai.call_request import call_digest, read_call
from api.request_headers import IdempotencyKey
from api.requests.body import read_json, require_media_type
from api.requests.vendor_requests import VendorOptions
from api.stream_response import StreamResponse
from api.submission_options import new_submission
from shared.dialects.dialect import Operation
from shared.event_loop_yield import pause_after
from shared.jobs.new_item import NewItem
from shared.jobs.submission import Submission
from shared.jobs.views import StoredJob
from shared.models import LLMResponse

# A client decides how long it waits. This limit is for clients that have vanished without closing
# the connection.
MAX_WAIT_S = 86_400.0
HEADERS_AFTER_S = 10.0  # a failure before this time has its own status, and clients can retry


@dataclass(frozen=True, slots=True)
class LiveCall:
    """One HTTP request to an endpoint that answers with a provider's answer."""

    request: Request
    services: Services
    owner: str
    key: str | None
    options: VendorOptions
    is_repetition: bool
    wait_for_disconnect: Callable[[], Awaitable[None]]

    async def answer(self, operation: Operation) -> Response:
        """Returns the provider's answer.

        Raises OpenAIError, HTTPException 400, 408, 413 and 415, and everything that `Batches.run`
        raises.
        """
        settings = self.services.settings
        require_media_type(self.request, (JSON,))
        body = await read_json(self.request, settings.max_body_bytes, "MAX_BODY_BYTES")
        items = [
            read_call(
                body, operation, self.services.catalogue, settings.default_provider, self.options
            )
        ]
        await pause_after(len(body))
        submission = new_submission(
            settings,
            self.owner,
            key=self.key,
            body_digest=call_digest(body, operation, self.options),
            interactive=True,
            is_live=True,
            is_repetition=self.is_repetition,
        )
        await pause_after(len(body))
        del body  # the client may wait for minutes; until then only Redis needs the request
        if "stream" in items[0].request:
            return await self._stream(operation, items, submission)
        job = await self.services.batches.run(
            self._submitted(items),
            submission,
            wait_s=MAX_WAIT_S,
            wait_for_disconnect=self.wait_for_disconnect,
        )
        return await self._response(operation, job, submission)

    async def _submitted(self, items: list[NewItem]) -> AsyncIterator[NewItem]:
        """Yields the only item, and then gives back the memory that the body has occupied."""
        yield items.pop()
        self.request.scope[MEMORY].resize(0)

    async def _stream(
        self, operation: Operation, items: list[NewItem], submission: Submission
    ) -> StreamResponse:
        batches, options = self.services.batches, items[0].request["stream"]
        job = await batches.start(
            self._submitted(items), submission, wait_for_disconnect=self.wait_for_disconnect
        )
        abandon = partial(batches.abandon, job.job_id, submission)

        async def answer() -> LLMResponse | None:
            known = await batches.status(job.job_id, submission, retry_for_s=MIN_RETRY_S)
            if not known.has_ended:
                await abandon()
            return await self._answer(known)

        stream = self.services.openai.answer_stream(job.job_id, operation, options, answer)
        try:
            await cancel_on_disconnect(self.wait_for_disconnect(), stream.begin(HEADERS_AFTER_S))
        except ClientDisconnected:
            await abandon()
            raise
        return StreamResponse(
            stream.chunks(),
            EVENT_STREAM,
            headers={"Location": f"/jobs/{job.job_id}"},
            on_disconnect=abandon,
        )

    async def _answer(self, job: StoredJob) -> LLMResponse | None:
        """Returns the result of the call, whose memory is reserved until the response is sent."""
        return await self.services.results.answer(job, self.request.scope[MEMORY])

    async def _response(
        self, operation: Operation, job: StoredJob, submission: Submission
    ) -> Response:
        answer = await self._answer(job)
        if answer is None:
            # A repetition of the call, at another API process, gets the same job.
            await self.services.batches.abandon(job.job_id, submission)
            raise stopped()
        if answer.error is not None:
            raise call_error(answer)
        return Response(
            answer_body(operation, answer, job.job_id),
            media_type=JSON,
            headers={"Location": f"/jobs/{job.job_id}"},
        )


async def _live_call(
    request: Request,
    services: ServicesDep,
    owner: OwnerDep,
    key: IdempotencyKey,
    wait_for_disconnect: DisconnectDep,
    provider: Annotated[
        str | None,
        Query(description="The provider that gets the call, with the whole name of the model."),
    ] = None,
    model: Annotated[
        str | None, Query(description="The model that replaces the model in the body.")
    ] = None,
    retry_count: Annotated[
        str,
        Header(
            alias="x-stainless-retry-count",
            description="The number of repetitions, which OpenAI's clients send. A repetition gets"
            " the answer of the same call, if that call still runs.",
        ),
    ] = "0",
) -> LiveCall:
    return LiveCall(
        request,
        services,
        owner,
        key,
        VendorOptions(provider, model),
        is_repetition=retry_count.isdecimal() and int(retry_count) > 0,
        wait_for_disconnect=wait_for_disconnect,
    )


LiveCallDep = Annotated[LiveCall, Depends(_live_call)]
