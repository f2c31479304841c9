"""Reading the body of a batch: bounded, and parsed once, from bytes to models."""

from typing import Annotated

from fastapi import Depends, HTTPException, Request, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from api.dependencies import SettingsDep
from shared.models import BatchLLMRequest


async def read_batch(request: Request, settings: SettingsDep) -> BatchLLMRequest:
    """Raises HTTPException 400, 413 or 415, RequestValidationError."""
    _require_json(request)
    body = await _read(request, settings.max_body_bytes)
    try:
        return BatchLLMRequest.model_validate_json(body)
    except ValidationError as error:
        # Without the input: it may be large, secret or no valid text.
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**detail, "loc": ("body", *detail["loc"])} for detail in details]
        ) from None


BatchBody = Annotated[BatchLLMRequest, Depends(read_batch)]


def _require_json(request: Request) -> None:
    """A web page of another site may send other types without asking; JSON it may not."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if media_type.lower() != "application/json":
        raise HTTPException(
            status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, "Content-Type should be application/json"
        )


async def _read(request: Request, limit: int) -> bytes:
    """FastAPI's `max_body_size` would do, but goes on to read what it has refused."""
    too_large = HTTPException(
        status.HTTP_413_CONTENT_TOO_LARGE,
        f"the body is larger than {limit} bytes",
        headers={"Connection": "close"},
    )
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
    except ClientDisconnect:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "the body ended early") from None
    return bytes(body)
