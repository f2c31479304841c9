"""Reading the body of a request: bounded, and parsed once, from bytes to models."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b
from typing import Annotated

from fastapi import Depends, HTTPException, Request, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from api.dependencies import SettingsDep
from api.errors import validation_error
from shared.models import BatchLLMRequest, LLMRequest
from shared.settings import Settings

JSON = "application/json"
MAX_ERRORS = 100  # that are told one by one
SILENT_S = 60.0  # for which a client may send nothing


async def read_batch(request: Request, settings: SettingsDep) -> BatchLLMRequest:
    """Raises HTTPException 400, 408, 413 or 415, RequestValidationError."""
    require_type(request, (JSON,))
    body = bytearray()
    async for chunk in _chunks(request, settings.max_body_bytes):
        body += chunk
    try:
        return BatchLLMRequest.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _refusal(error, "body") from None


BatchBody = Annotated[BatchLLMRequest, Depends(read_batch)]


def require_type(request: Request, allowed: Sequence[str]) -> str:
    """Returns the media type; none counts as the first, but not from a web page (which has an
    Origin): one of another site may send no type, and others than these, without asking."""
    default = "" if "origin" in request.headers else allowed[0]
    media_type = request.headers.get("content-type", default).partition(";")[0].strip().lower()
    if media_type not in allowed:
        raise HTTPException(
            status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, f"Content-Type should be {' or '.join(allowed)}"
        )
    return media_type


async def read_lines(request: Request, settings: Settings) -> AsyncIterator[LLMRequest]:
    """NDJSON, one request a line, as it arrives; empty lines are passed over. Raises HTTPException
    400, 408 or 413, RequestValidationError with the number of the line."""
    ids: dict[bytes, int] = {}  # digests: a request_id may be long
    count = 0
    async for number, line in _lines(request, settings):
        try:
            item = LLMRequest.model_validate_json(line)
        except ValidationError as error:
            raise _refusal(error, "body", "line", number) from None
        if item.request_id is not None:
            digest = blake2b(item.request_id.encode(), digest_size=16).digest()
            if earlier := ids.get(digest):
                raise _bad_line(number, f"request_id is the same as that of line {earlier}")
            ids[digest] = number
        count += 1
        if count > settings.max_job_items:
            raise HTTPException(
                status.HTTP_413_CONTENT_TOO_LARGE,
                f"a job may have {settings.max_job_items} requests",
            )
        yield item
    if not count:
        raise _bad_line(1, "there should be at least one request")


async def _lines(request: Request, settings: Settings) -> AsyncIterator[tuple[int, bytes]]:
    """Their numbers from 1."""
    number, parts, size = 1, list[bytes](), 0
    async for chunk in _chunks(request, settings.max_job_bytes):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*parts, end)) if parts else end
            if len(line) > settings.max_line_bytes:
                raise _too_long(number, settings)
            if line.strip():
                yield number, line
            number, parts, size = number + 1, [], 0
        parts.append(rest)
        size += len(rest)
        if size > settings.max_line_bytes:
            raise _too_long(number, settings)
    line = b"".join(parts)
    if line.strip():
        yield number, line


async def _chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """FastAPI's `max_body_size` would do, but goes on to read what it has refused."""
    too_large = HTTPException(
        status.HTTP_413_CONTENT_TOO_LARGE,
        f"the body is larger than {limit} bytes",
        headers={"Connection": "close"},
    )
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    size = 0
    stream = aiter(request.stream())
    try:
        while True:
            async with asyncio.timeout(SILENT_S):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            size += len(chunk)
            if size > limit:
                raise too_large
            yield chunk
    except ClientDisconnect:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "the body ended early") from None
    except TimeoutError:
        raise HTTPException(status.HTTP_408_REQUEST_TIMEOUT, "the body stopped coming") from None


def _too_long(number: int, settings: Settings) -> RequestValidationError:
    return _bad_line(number, f"longer than {settings.max_line_bytes} bytes")


def _bad_line(number: int, message: str) -> RequestValidationError:
    return validation_error(message, "body", "line", number)


def _refusal(error: ValidationError, *where: str | int) -> RequestValidationError:
    if error.error_count() > MAX_ERRORS:
        return validation_error(f"{error.error_count()} mistakes", *where)
    # Without the input: it may be large, secret or no valid text.
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError(
        [{**detail, "loc": (*where, *detail["loc"])} for detail in details]
    )
