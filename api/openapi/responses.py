"""Describes responses that several routes have. Those under `/v1` are in openai_responses.py.

One description may stand for several exceptions, whose texts are in error_responses.py.
"""

from typing import Any

from pydantic import BaseModel, Field

from api.errors.error_responses import ERROR_RESPONSES
from api.errors.exception_types import IdempotencyResultExpired
from api.media_types import EVENT_STREAM, JSON, NDJSON
from shared.jobs.service import JobNotFound
from shared.models import Job, JobItem

Responses = dict[int | str, dict[str, Any]]

SCHEMA = "#/components/schemas/{model}"


class Refusal(BaseModel):
    """Is the body of every error response except 422 and 500, on paths that are not under `/v1`."""

    detail: str = Field(description="A description of the error for a human reader.")


def _refusal(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"model": Refusal, "description": description, "headers": headers or {}}


def _text(error: type[Exception]) -> str:
    """Returns the text of the response to an exception, as a sentence."""
    detail = ERROR_RESPONSES[error].detail
    return f"{detail[0].upper()}{detail[1:]}."


RETRY_AFTER = {
    "Retry-After": {
        "schema": {"type": "integer"},
        "description": "Number of seconds to wait before a retry.",
    }
}
ACCEPTED_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "The URL of the job."},
    "Preference-Applied": {
        "schema": {"type": "string"},
        "description": "The preferences of the header `Prefer` that were applied (RFC 7240).",
    },
}

ACCEPTED: Responses = {
    202: {
        "model": Job,
        "description": "The job was accepted. The URL in the Location header returns its status.",
        "headers": ACCEPTED_HEADERS,
    }
}
NDJSON_ITEMS = {NDJSON: {"schema": {"$ref": SCHEMA.format(model=JobItem.__name__)}}}
EVENTS: dict[str, Any] = {EVENT_STREAM: {}}  # OpenAPI 3.1 has no schema for events
UNAUTHORIZED: Responses = {401: _refusal("`API_KEYS` is set, and the request has no valid key.")}
NOT_FOUND: Responses = {404: _refusal(_text(JobNotFound))}
INVALID_CURSOR: Responses = {
    400: _refusal("The cursor is not a cursor of this API, or is beyond the job's last request.")
}
NOTHING_TO_RETRY: Responses = {
    409: _refusal("The job has not ended yet, or none of its requests has failed.")
}
UNAVAILABLE: Responses = {
    **UNAUTHORIZED,
    503: _refusal(
        "Redis is unavailable or almost full, or too many requests or large bodies are open.",
        RETRY_AFTER,
    ),
}
SUBMISSION_REFUSED: Responses = {
    400: _refusal("The body ended early, or cannot be decompressed."),
    408: _refusal("The client stopped sending the body, or sent it too slowly."),
    409: _refusal(_text(IdempotencyResultExpired)),
    413: _refusal(
        "A JSON body, as sent or decompressed, is larger than `MAX_BODY_BYTES`. Or an NDJSON body"
        " is larger than `MAX_JOB_BYTES` or has more than `MAX_JOB_ITEMS` requests. Or a JSON body"
        " has more than 100,000 fields and elements."
    ),
    415: _refusal(
        "This endpoint does not accept a body with this Content-Type or Content-Encoding. A body"
        " may be compressed with `gzip` or `deflate`."
    ),
    422: {
        "description": "The request is invalid, or its Idempotency-Key was used before, with"
        " different requests or options.",
        "content": {JSON: {"schema": {"$ref": SCHEMA.format(model="HTTPValidationError")}}},
    },
    429: _refusal(
        "With this job, you would have more than `MAX_QUEUE_DEPTH` requests queued for one"
        " provider, or your unfinished jobs and your files would exceed `MAX_QUEUE_BYTES`.",
        RETRY_AFTER,
    ),
    **UNAVAILABLE,
}
