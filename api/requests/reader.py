"""Parses the requests in a body, and converts them to items."""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import blake2b

from fastapi import HTTPException, Request, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from api.errors import validation_error
from api.media_types import JSON, NDJSON
from api.memory_budget import MEMORY
from api.requests.body import body_chunks, held_chunks, read_body, require_media_type
from api.requests.formats import RequestFormat, detect
from api.requests.json_members import InvalidJson, elements, object_members, one_line
from api.requests.lines import line_error, request_lines
from api.requests.unique_ids import UniqueIds
from api.requests.vendor_line import InvalidLine
from api.requests.vendor_requests import VendorOptions, VendorRequests, field_path
from shared.dialects.dialect import Untranslatable
from shared.dialects.dialects import DIALECTS
from shared.dialects.parameters import body_of
from shared.jobs.new_item import InexactNumber, NewItem, is_plain, native_item
from shared.jobs.staging import CHUNK_BYTES
from shared.models import BatchLLMRequest, JobOptions, LLMRequest
from shared.providers import Catalogue, Provider
from shared.providers.routing import (
    Fallback,
    RoutingError,
    named_fallbacks,
    unknown_provider_message,
)
from shared.settings import Settings

MAX_ERRORS = 100  # limit of errors that are listed one by one


@dataclass(frozen=True, slots=True)
class RequestReader:
    """Reads the requests of one HTTP request.

    The methods raise HTTPException 400, 408, 413 or 415, and RequestValidationError.
    """

    request: Request
    settings: Settings
    catalogue: Catalogue

    async def batch(self) -> BatchLLMRequest:
        """Returns the batch in a JSON body.

        The digest of the body becomes `request.state.body_digest`.
        """
        require_media_type(self.request, (JSON,))
        body = await self._body()
        self.request.state.body_digest = blake2b(body, digest_size=16).hexdigest()
        try:
            return self._batch(body)
        except ValidationError as error:
            raise _validation_error(error, "body") from None

    async def job(
        self, options: JobOptions, foreign: VendorOptions
    ) -> tuple[AsyncIterable[NewItem], JobOptions]:
        """Returns the items and the options of a job, whose body is a JSON batch or NDJSON.

        NDJSON is read while the items are iterated, so the iteration raises the same exceptions.
        `options` replace the options in a JSON body. A JSON body may also have requests without a
        batch around them, because clients send files of one or more requests as JSON.
        """
        media_type = require_media_type(self.request, (JSON, NDJSON))
        self._check_options(foreign)
        if media_type == NDJSON:
            chunks = body_chunks(self.request, self.settings.max_job_bytes, "MAX_JOB_BYTES")
            chunks = held_chunks(self.request, chunks, self.settings.max_line_bytes + CHUNK_BYTES)
            return self._lines(chunks, foreign), options
        body = await self._body()
        try:
            batch = self._batch(body)
        except ValidationError as error:
            lines = body if await self._is_lines(body, foreign) else _anthropic_requests(body)
            if lines is not None:
                return self._lines(_chunks(lines), foreign), options
            raise _validation_error(error, "body") from None
        if foreign != VendorOptions():
            raise _only_for_foreign("body")
        replaced = batch.model_copy(update=options.model_dump(exclude_none=True))
        return self.items(batch.requests), replaced

    async def items(self, requests: list[LLMRequest]) -> AsyncIterator[NewItem]:
        """Yields the items of the requests of a batch, and removes the requests from the list.

        The client may wait for the results for minutes; until then the requests are not needed.
        """
        requests.reverse()
        for index in range(len(requests)):
            yield self._native_item(requests.pop(), "body", "requests", index)
        self.request.scope[MEMORY].resize(0)

    async def _body(self) -> bytes:
        return await read_body(self.request, self.settings.max_body_bytes, "MAX_BODY_BYTES")

    def _batch(self, body: bytes) -> BatchLLMRequest:
        return BatchLLMRequest.model_validate_json(body, context={"catalogue": self.catalogue})

    def _check_options(self, options: VendorOptions) -> None:
        if options.provider is not None and options.provider not in self.catalogue.rows:
            message = unknown_provider_message(self.catalogue, options.provider)
            raise validation_error(message, "query", "provider")
        if options.model is not None and not options.model.strip():
            raise validation_error("must not be blank", "query", "model")

    async def _is_lines(self, body: bytes, options: VendorOptions) -> bool:
        """Returns whether the body, which is not a batch, begins with a request."""
        try:
            async for _, line in request_lines(_chunks(body), self.settings.max_line_bytes):
                members = object_members(line.decode())
                is_request = detect(members) or options != VendorOptions()
                return "requests" not in members and bool(is_request)
        except (InvalidJson, UnicodeDecodeError, RequestValidationError):
            pass
        return False

    async def _lines(
        self, chunks: AsyncIterator[bytes], options: VendorOptions
    ) -> AsyncIterator[NewItem]:
        foreign = VendorRequests(self.catalogue, self.settings.default_provider, options)
        unique = UniqueIds()
        to_item: Callable[[int, bytes], NewItem] | None = None
        count = 0
        async for number, line in request_lines(chunks, self.settings.max_line_bytes):
            to_item = to_item or self._converter(foreign, options, number, line)
            item = to_item(number, line)
            try:
                unique.check(number, item)
            except InvalidLine as error:
                raise line_error(number, str(error), *error.path) from None
            count += 1
            if count > self.settings.max_job_items:
                raise HTTPException(
                    status.HTTP_413_CONTENT_TOO_LARGE,
                    f"the job has more than {self.settings.max_job_items} requests (MAX_JOB_ITEMS)",
                )
            yield item
        if not count:
            raise line_error(1, "the body must have at least one request")

    def _converter(
        self, foreign: VendorRequests, options: VendorOptions, number: int, first: bytes
    ) -> Callable[[int, bytes], NewItem]:
        """Returns the function that converts each line of the job, whose first line is `first`."""
        try:
            job_format = foreign.format_of(first)
        except InvalidLine as error:
            raise line_error(number, str(error), *error.path) from None
        if job_format is RequestFormat.NATIVE:
            if options.provider or options.model:
                raise _only_for_foreign("body", "line", number)
            return self._native_line

        def foreign_line(number: int, line: bytes) -> NewItem:
            try:
                return foreign.item(line, job_format)
            except InvalidLine as error:
                raise line_error(number, str(error), *error.path) from None

        return foreign_line

    def _native_line(self, number: int, line: bytes) -> NewItem:
        try:
            request = LLMRequest.model_validate_json(line, context={"catalogue": self.catalogue})
        except ValidationError as error:
            raise _validation_error(error, "body", "line", number) from None
        return self._native_item(request, "body", "line", number)

    def _native_item(self, request: LLMRequest, *location: str | int) -> NewItem:
        fallbacks = self._fallbacks(request, *location) if request.models else []
        try:
            item = native_item(request, self.catalogue, fallbacks)
        except InexactNumber as error:
            raise validation_error(str(error), *location, *error.path) from None
        self._check_translation(self.catalogue.rows[request.provider], request, item, *location)
        for row in {row.name: row for step in fallbacks for row in step.providers}.values():
            self._check_translation(row, request, item, *location)
        return item

    def _fallbacks(self, request: LLMRequest, *location: str | int) -> list[Fallback]:
        found: dict[tuple[str, str], Fallback] = {}
        for number, name in enumerate(request.models or ()):
            try:
                steps = named_fallbacks(self.catalogue, name)
            except RoutingError as error:
                raise validation_error(str(error), *location, "models", number) from None
            found |= {(step.lane, step.model.lower()): step for step in steps}
        found.pop((request.provider, request.model.lower()), None)
        return list(found.values())

    def _check_translation(
        self, row: Provider, request: LLMRequest, item: NewItem, *location: str | int
    ) -> None:
        codec = DIALECTS[row.dialect].native
        if codec.translate and not (codec.takes_plain and is_plain(request)):
            try:
                body_of(row, codec, item.request["model"], item.request["chat"])
            except Untranslatable as error:
                raise validation_error(
                    f"{row.name} cannot take this: {error.reason}", *location, *field_path(error)
                ) from None


def _anthropic_requests(body: bytes) -> bytes | None:
    """Returns the requests of a body for Anthropic's batch API, one per line.

    Returns None for another body.
    """
    if b'"params"' not in body:
        return None
    try:
        members = object_members(body.decode())
    except (InvalidJson, UnicodeDecodeError):
        return None
    match {name: member.value for name, member in members.items()}:
        case {"requests": [{"params": dict()}, *_], **others} if not others:
            texts = elements(members["requests"].value_text)
            return "\n".join(map(one_line, texts)).encode()
    return None


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _only_for_foreign(*location: str | int) -> RequestValidationError:
    return validation_error(
        "?provider=, ?model= and ?format= are for requests in the format of OpenAI, Anthropic or"
        " Gemini; this request is in the native format, and names its provider and model itself",
        *location,
    )


def _validation_error(error: ValidationError, *location: str | int) -> RequestValidationError:
    if error.error_count() > MAX_ERRORS:
        return validation_error(
            f"the request has {error.error_count()} errors, which are too many to list", *location
        )
    # The input is left out, because it may be large, secret or invalid text.
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError(
        [{**detail, "loc": (*location, *detail["loc"])} for detail in details]
    )
