"""Describes the bodies of requests, because the routes read them without FastAPI."""

from typing import Any

from pydantic import BaseModel

from api.media_types import JSON, NDJSON
from api.openai.batch_schemas import MAX_EXPIRY_S, MIN_EXPIRY_S
from api.openapi.responses import SCHEMA
from shared.models import BatchLLMRequest, LLMRequest

JSON_BODY = {JSON: {"schema": {"$ref": SCHEMA.format(model=BatchLLMRequest.__name__)}}}
NDJSON_BODY = {NDJSON: {"schema": {"$ref": SCHEMA.format(model=LLMRequest.__name__)}}}

OPENAI_BODY: dict[str, Any] = {
    JSON: {"schema": {"type": "object", "description": "The body as OpenAI's API defines it."}}
}
UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string"},
                        "expires_after[anchor]": {"const": "created_at"},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": MIN_EXPIRY_S,
                            "maximum": MAX_EXPIRY_S,
                        },
                    },
                }
            }
        },
    }
}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Returns the value of `openapi_extra` of a route whose JSON body is `model`."""
    return request_body({JSON: {"schema": {"$ref": SCHEMA.format(model=model.__name__)}}})


def request_body(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the value of `openapi_extra` of a route whose body has one of the media types."""
    return {"requestBody": {"required": True, "content": content}}
