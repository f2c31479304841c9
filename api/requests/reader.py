"""Parses the requests in a body, and converts them to items."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from fastapi import HTTPException, Request, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from api.asgi_scope import MEMORY
from api.errors.validation_error import validation_error
from api.media_types import JSON, NDJSON
from api.requests.batch_body import large_batch, small_batch
from api.requests.body import (
    body_chunks,
    held_chunks,
    read_body,
    refusing_too_many_parts,
    require_media_type,
)
from api.requests.decompression import PIECE_BYTES
from api.requests.formats import RequestFormat, detect
from api.requests.json_members import InvalidJson, object_members, one_line
from api.requests.lines import line_error, request_lines
from api.requests.native_requests import NativeRequests, request_error, valid
from api.requests.unique_ids import UniqueIds
from api.requests.vendor_line import InvalidLine
from api.requests.vendor_requests import VendorOptions, VendorRequests
from shared.event_loop_yield import LARGE_BYTES, pause
from shared.jobs.new_item import NewItem
from shared.jobs.staging import CHUNK_BYTES
from shared.json_scanner import Scanner, Text, check_parts, scan
from shared.models import JobOptions
from shared.providers import Catalogue
from shared.providers.routing import unknown_provider_message
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class RequestReader:
    """Reads the requests in the body of one HTTP request.

    `batch` and `job`, and the iteration of their items, raise HTTPException 400, 408, 413 or 415,
    MemoryFull and RequestValidationError.
    """

    request: Request
    settings: Settings
    catalogue: Catalogue

    async def batch(self) -> tuple[AsyncIterator[NewItem], JobOptions]:
        """Returns the items and the options of the batch in a JSON body.

        The digest of the body becomes `request.state.body_digest`.
        """
        require_media_type(self.request, (JSON,))
        body = await self._body()
        self.request.state.body_digest = blake2b(body, digest_size=16).hexdigest()
        if len(body) > LARGE_BYTES:
            await pause()
            items, options = await large_batch(await _scan(body), self._native)
        else:
            with refusing_too_many_parts():
                await check_parts(body)
            items, options = valid(lambda: small_batch(body, self._native), "body")
        return self._releasing(items), options

    async def job(
        self, options: JobOptions, foreign: VendorOptions
    ) -> tuple[AsyncIterator[NewItem], JobOptions]:
        """Returns the items and the options of a job, whose body is a JSON batch or NDJSON.

        NDJSON is read while the items are iterated. Each of `options` that is not None replaces the
        option in a JSON body. A JSON body may also have requests without a batch around them,
        because clients send files of one or more requests as JSON. `foreign` is only for requests
        in a vendor's format; other requests are refused if `foreign` has an option.
        """
        media_type = require_media_type(self.request, (JSON, NDJSON))
        self._check_options(foreign)
        if media_type == NDJSON:
            chunks = body_chunks(self.request, self.settings.max_job_bytes, "MAX_JOB_BYTES")
            chunks = held_chunks(self.request, chunks, self.settings.max_line_bytes + CHUNK_BYTES)
            return self._lines(chunks, foreign), options
        body = await self._body()
        if len(body) > LARGE_BYTES:
            scanned = await _scan(body)
            if lines := await self._other_lines(scanned, foreign):
                return self._releasing(self._lines(lines, foreign)), options
            items, in_body = await large_batch(scanned, self._native)
        else:
            with refusing_too_many_parts():
                await check_parts(body)
            try:
                items, in_body = small_batch(body, self._native)
            except ValidationError as error:
                if lines := await self._other_lines(await _scan(body), foreign):
                    return self._releasing(self._lines(lines, foreign)), options
                raise request_error(error, "body") from None
        if foreign != VendorOptions():
            raise _only_for_foreign("body")
        replaced = in_body.model_copy(update=options.model_dump(exclude_none=True))
        return self._releasing(items), replaced

    @property
    def _native(self) -> NativeRequests:
        return NativeRequests(self.catalogue)

    async def _body(self) -> bytearray:
        return await read_body(self.request, self.settings.max_body_bytes, "MAX_BODY_BYTES")

    async def _releasing(self, items: AsyncIterator[NewItem]) -> AsyncIterator[NewItem]:
        """Yields the items, and then releases the memory that was reserved for the body."""
        async for item in items:
            yield item
        self.request.scope[MEMORY].resize(0)

    async def _other_lines(
        self, scanned: Scanner, foreign: VendorOptions
    ) -> AsyncIterator[bytes] | None:
        """Returns the requests of a body that is no native batch, as lines.

        Returns None for a native batch, and for a body that does not begin with a request.
        """
        if scanned.requests is None:
            is_lines = await self._is_lines(scanned.text, foreign)
            return _pieces(scanned.text) if is_lines else None
        return _anthropic_requests(scanned)

    def _check_options(self, options: VendorOptions) -> None:
        if options.provider is not None and options.provider not in self.catalogue.rows:
            message = unknown_provider_message(self.catalogue, options.provider)
            raise validation_error(message, "query", "provider")
        if options.model is not None and not options.model.strip():
            raise validation_error("must not be blank", "query", "model")

    async def _is_lines(self, body: Text, options: VendorOptions) -> bool:
        """Returns whether the body, which is no native batch, begins with a request."""
        try:
            async for _, line in request_lines(_pieces(body), self.settings.max_line_bytes):
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
            return self._native.line

        def foreign_line(number: int, line: bytes) -> NewItem:
            try:
                return foreign.item(line, job_format)
            except InvalidLine as error:
                raise line_error(number, str(error), *error.path) from None

        return foreign_line


def _anthropic_requests(scanned: Scanner) -> AsyncIterator[bytes] | None:
    """Returns the requests of a body for Anthropic's batch API, one per line.

    Returns None for another body.
    """
    texts = [scanned.text[start:end] for start, end in scanned.requests or ()]
    if not texts or b'"params"' not in texts[0] or not all(text.strip() for text in texts):
        return None
    try:
        others = object_members(scanned.skeleton().decode()).keys() - {"requests"}
        first = object_members(texts[0].decode())
    except (InvalidJson, UnicodeDecodeError):
        return None
    if others or "params" not in first or not isinstance(first["params"].value, dict):
        return None
    return _as_lines(texts)


async def _as_lines(texts: Sequence[Text]) -> AsyncIterator[bytes]:
    for text in texts:
        yield one_line(text.decode()).encode() + b"\n"


async def _pieces(body: Text) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield bytes(body[start : start + PIECE_BYTES])
        await asyncio.sleep(0)


async def _scan(body: Text) -> Scanner:
    with refusing_too_many_parts():
        return await scan(body)


def _only_for_foreign(*location: str | int) -> RequestValidationError:
    return validation_error(
        "?provider=, ?model= and ?format= are for requests in the format of OpenAI, Anthropic or"
        " Gemini; this request is in the native format, and names its provider and model itself",
        *location,
    )
