"""The OpenAPI document, and the descriptions in it that routes share."""

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

from api.media_types import EVENT_STREAM, JSON, NDJSON
from shared.models import BatchLLMRequest, Job, JobItem, LLMRequest


class Refusal(BaseModel):
    """The body of every error response, but for 422."""

    detail: str = Field(description="What went wrong, for people.")


Responses = dict[int | str, dict[str, Any]]

SCHEMA = "#/components/schemas/{model}"

# Tags: the sections of /docs, in this order.

BATCHES = "Batches"
JOBS = "Jobs"
MONITORING = "Monitoring"
HEALTH = "Health"

TAGS = [
    {
        "name": BATCHES,
        "description": "Up to 100 requests whose results come in the response.",
    },
    {
        "name": JOBS,
        "description": "Jobs of any size: submit them, follow them, read their results, cancel and"
        " retry them. Every batch is a job, too.",
    },
    {
        "name": MONITORING,
        "description": "Queues, workers and problems of this deployment, for people and for"
        " Prometheus.",
    },
    {"name": HEALTH, "description": "Checks for load balancers and orchestrators."},
]

# The middleware checks the key; this dependency only documents it.
AUTHENTICATED = Depends(
    HTTPBearer(
        auto_error=False, description="Your API key. Needed if the server has `API_KEYS` set."
    )
)

# Responses


def _refusal(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"model": Refusal, "description": description, "headers": headers or {}}


_RETRY_AFTER = {
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait before a retry."}
}
_ACCEPTED_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "The URL of the job."},
    "Preference-Applied": {
        "schema": {"type": "string"},
        "description": "The preferences of `Prefer` that were honoured (RFC 7240).",
    },
}

ACCEPTED: Responses = {
    202: {
        "model": Job,
        "description": "The job was accepted and continues. Poll the Location URL.",
        "headers": _ACCEPTED_HEADERS,
    }
}
NDJSON_ITEMS = {NDJSON: {"schema": {"$ref": SCHEMA.format(model=JobItem.__name__)}}}
EVENTS: dict[str, Any] = {EVENT_STREAM: {}}  # OpenAPI 3.1 has no schema for events
UNAUTHORIZED: Responses = {401: _refusal("`API_KEYS` is set, and the request has no valid key.")}
NOT_FOUND: Responses = {404: _refusal("There is no such job, or its results have expired.")}
INVALID_CURSOR: Responses = {400: _refusal("The cursor is not one that this API has returned.")}
NOTHING_TO_RETRY: Responses = {
    409: _refusal("The job has not completed yet, or none of its items has failed.")
}
UNAVAILABLE: Responses = {
    **UNAUTHORIZED,
    503: _refusal("Redis is unreachable, or too many requests are open.", _RETRY_AFTER),
}
SUBMISSION_REFUSED: Responses = {
    400: _refusal("The body ended early."),
    408: _refusal("The client stopped sending the body."),
    409: _refusal("The results of the job with this Idempotency-Key have expired."),
    413: _refusal(
        "The body is larger than `MAX_BODY_BYTES` or, as NDJSON, than `MAX_JOB_BYTES` or"
        " `MAX_JOB_ITEMS`."
    ),
    415: _refusal("The Content-Type is none of those that are listed for the body."),
    422: {
        "description": "The request is invalid, or its Idempotency-Key was used with another body.",
        "content": {JSON: {"schema": {"$ref": SCHEMA.format(model="HTTPValidationError")}}},
    },
    429: _refusal(
        "More than `MAX_QUEUE_DEPTH` requests would be queued for one provider.", _RETRY_AFTER
    ),
    **UNAVAILABLE,
}

# Request bodies: the routes read them without FastAPI.

JSON_BODY = {JSON: {"schema": {"$ref": SCHEMA.format(model=BatchLLMRequest.__name__)}}}
NDJSON_BODY = {NDJSON: {"schema": {"$ref": SCHEMA.format(model=LLMRequest.__name__)}}}


def request_body(content: dict[str, Any]) -> dict[str, Any]:
    """For `openapi_extra` of a route."""
    return {"requestBody": {"required": True, "content": content}}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Adds the models that routes read or stream themselves, because FastAPI does not know them."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=TAGS,
        )
        schemas = document["components"]["schemas"]
        for model in (BatchLLMRequest, LLMRequest, JobItem):
            schema = model.model_json_schema(ref_template=SCHEMA)
            schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
        app.openapi_schema = document
    return app.openapi_schema
