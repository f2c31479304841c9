"""Reads the body of a request within limits, and parses it once, from bytes to models."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from hashlib import blake2b
from typing import Annotated

from fastapi import Depends, HTTPException, Request, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from api.body_decoder import PIECE_BYTES, Unpacker, new_unpacker, without_mark
from api.dependencies import SettingsDep
from api.errors import validation_error
from api.media_types import JSON, NDJSON, declared_media_type
from shared.jobs.service import to_async
from shared.models import BatchLLMRequest, JobOptions, LLMRequest
from shared.settings import Settings

MAX_ERRORS = 100  # limit of errors that are listed one by one
READ_TIMEOUT_S = 60.0  # time within which a client must send the next chunk


async def read_batch(request: Request, settings: SettingsDep) -> BatchLLMRequest:
    """Returns the batch in a JSON body. The digest of the body becomes `request.state.body_digest`.

    Raises HTTPException 400, 408, 413 or 415, and RequestValidationError.
    """
    require_media_type(request, (JSON,))
    body = bytearray()
    async for chunk in _chunks(request, settings.max_body_bytes, "MAX_BODY_BYTES"):
        body += chunk
    request.state.body_digest = blake2b(body, digest_size=16).hexdigest()
    try:
        return BatchLLMRequest.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _validation_error(error, "body") from None


BatchBody = Annotated[BatchLLMRequest, Depends(read_batch)]


async def read_job(
    request: Request, settings: Settings, *, deadline_s: float | None, webhook_url: str | None
) -> tuple[AsyncIterable[LLMRequest], JobOptions]:
    """Returns the requests and the options of a job, whose body is a JSON batch or NDJSON.

    NDJSON is read while the requests are iterated. The arguments replace the options in a JSON
    body. Raises the same exceptions as `read_batch`; the iteration raises them, too.
    """
    options = JobOptions(deadline_s=deadline_s, webhook_url=webhook_url)
    if require_media_type(request, (JSON, NDJSON)) == NDJSON:
        return read_lines(request, settings), options
    batch = await read_batch(request, settings)
    return to_async(batch.requests), batch.model_copy(update=options.model_dump(exclude_none=True))


def require_media_type(request: Request, allowed: Sequence[str]) -> str:
    """Returns the media type of the body. Raises HTTPException 415 unless it is one of `allowed`.

    If the request has no Content-Type, returns the first of `allowed`, unless a page of another
    site has sent the request.
    """
    media_type = declared_media_type(request.headers, default=allowed[0])
    if media_type not in allowed:
        raise HTTPException(
            status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, f"Content-Type must be {' or '.join(allowed)}"
        )
    return media_type


async def read_lines(request: Request, settings: Settings) -> AsyncIterator[LLMRequest]:
    """Yields the requests of an NDJSON body as they arrive, without empty lines.

    Raises HTTPException 400, 408 or 413, and RequestValidationError with the number of a line.
    """
    ids: dict[bytes, int] = {}  # digest of a request_id → line; a request_id may be long
    count = 0
    async for number, line in _lines(request, settings):
        try:
            item = LLMRequest.model_validate_json(line)
        except ValidationError as error:
            raise _validation_error(error, "body", "line", number) from None
        if item.request_id is not None:
            digest = blake2b(item.request_id.encode(), digest_size=16).digest()
            if earlier := ids.get(digest):
                raise _line_error(
                    number, f"request_id must differ from the request_id in line {earlier}"
                )
            ids[digest] = number
        count += 1
        if count > settings.max_job_items:
            raise HTTPException(
                status.HTTP_413_CONTENT_TOO_LARGE,
                f"the job has more than {settings.max_job_items} requests (MAX_JOB_ITEMS)",
            )
        yield item
    if not count:
        raise _line_error(1, "the body must have at least one request")


async def _lines(request: Request, settings: Settings) -> AsyncIterator[tuple[int, bytes]]:
    """Yields the number and the content of each line that is not empty. Numbers begin at 1."""
    number, parts, size = 1, list[bytes](), 0
    async for chunk in _chunks(request, settings.max_job_bytes, "MAX_JOB_BYTES"):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*parts, end)) if parts else end
            if len(line) > settings.max_line_bytes:
                raise _line_too_long(number, settings)
            if line.strip():
                yield number, line
            number, parts, size = number + 1, [], 0
        parts.append(rest)
        size += len(rest)
        if size > settings.max_line_bytes:
            raise _line_too_long(number, settings)
    line = b"".join(parts)
    if line.strip():
        yield number, line


def _chunks(request: Request, max_bytes: int, setting: str) -> AsyncIterator[bytes]:
    """Returns the chunks of the body, unpacked and without a byte order mark.

    The limit applies to the received bytes and to the unpacked bytes. Raises HTTPException 415; the
    iteration raises HTTPException 400, 408 or 413.
    """
    too_large = HTTPException(
        status.HTTP_413_CONTENT_TOO_LARGE,
        f"the body is larger than {max_bytes} bytes ({setting})",
        headers={"Connection": "close"},
    )
    unpacker = new_unpacker(request.headers.get("content-encoding"))
    received = _received(request, max_bytes, too_large)
    return _unpacked(received, unpacker, max_bytes, too_large) if unpacker else received


async def _unpacked(
    received: AsyncIterator[bytes], unpacker: Unpacker, max_bytes: int, too_large: HTTPException
) -> AsyncIterator[bytes]:
    size = 0
    start: bytes | None = b""  # becomes None when the body has begun
    async for chunk in received:
        for piece in unpacker.unpack(chunk):
            size += len(piece)
            if size > max_bytes:
                raise too_large
            if start is None:
                yield piece
            else:
                rest, start = without_mark(start + piece)
                yield rest
            if len(piece) == PIECE_BYTES:
                await asyncio.sleep(0)  # lets other requests run: one chunk may unpack to many
    unpacker.finish()
    if start:
        yield start


async def _received(
    request: Request, max_bytes: int, too_large: HTTPException
) -> AsyncIterator[bytes]:
    """Yields the chunks of the body without a byte order mark.

    FastAPI's `max_body_size` is not used, because it continues to read a body that it has refused.
    """
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large
    size = 0
    start: bytes | None = b""  # becomes None when the body has begun
    stream = aiter(request.stream())
    try:
        while True:
            async with asyncio.timeout(READ_TIMEOUT_S):
                chunk = await anext(stream, None)
            if chunk is None:
                break
            size += len(chunk)
            if size > max_bytes:
                raise too_large
            if start is not None:
                chunk, start = without_mark(start + chunk)
            yield chunk
    except ClientDisconnect:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "the body ended early") from None
    except TimeoutError:
        raise HTTPException(
            status.HTTP_408_REQUEST_TIMEOUT,
            f"the client sent no data for {READ_TIMEOUT_S:g} s; send the request again",
        ) from None
    if start:
        yield start


def _line_too_long(number: int, settings: Settings) -> RequestValidationError:
    return _line_error(
        number, f"the line is longer than {settings.max_line_bytes} bytes (MAX_LINE_BYTES)"
    )


def _line_error(number: int, message: str) -> RequestValidationError:
    return validation_error(message, "body", "line", number)


def _validation_error(error: ValidationError, *location: str | int) -> RequestValidationError:
    if error.error_count() > MAX_ERRORS:
        return validation_error(
            f"the input has {error.error_count()} errors, which are too many to list", *location
        )
    # The input is left out, because it may be large, secret or invalid text.
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError(
        [{**detail, "loc": (*location, *detail["loc"])} for detail in details]
    )
