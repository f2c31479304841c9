"""Reads JSON bodies of requests under `/v1` whose fields a model defines."""

from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from api.media_types import JSON
from api.requests.body import read_json, require_media_type
from shared.settings import Settings

Model = TypeVar("Model", bound=BaseModel)


async def read_model(request: Request, settings: Settings, model: type[Model]) -> Model:
    """Returns the body as a model. Raises RequestValidationError, HTTPException, MemoryFull."""
    require_media_type(request, (JSON,))
    body = await read_json(request, settings.max_body_bytes, "MAX_BODY_BYTES")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**detail, "loc": ("body", *detail["loc"])} for detail in details]
        ) from None
