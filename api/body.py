"""Reading the body of a batch: parsed once, from bytes to models. The application bounds it."""

from typing import Annotated

from fastapi import Depends, HTTPException, Request, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from shared.models import BatchLLMRequest


async def read_batch(request: Request) -> BatchLLMRequest:
    """Raises HTTPException 400 or 415, RequestValidationError."""
    _require_json(request)
    try:
        body = await request.body()
    except ClientDisconnect:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "the body ended early") from None
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
