"""Builds the OpenAPI document, and contains the descriptions that several routes share."""

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

from api.errors.openai_errors import PREFIX
from api.media_types import EVENT_STREAM, JSON, NDJSON
from api.openai.batch_schemas import MAX_EXPIRY_S, MIN_EXPIRY_S, NewBatch
from api.openai.schemas import OpenAIRefusal
from shared.models import BatchLLMRequest, Job, JobItem, LLMRequest


class Refusal(BaseModel):
    """Is the body of every error response except 422."""

    detail: str = Field(description="A description of the error for a human reader.")


Responses = dict[int | str, dict[str, Any]]

SCHEMA = "#/components/schemas/{model}"

# Tags: the sections of /docs, in this order.

BATCHES = "Batches"
JOBS = "Jobs"
OPENAI = "OpenAI API"
MONITORING = "Monitoring"
HEALTH = "Health"

TAGS = [
    {
        "name": BATCHES,
        "description": "Run up to 100 requests and get their results in the response.",
    },
    {
        "name": JOBS,
        "description": "Submit jobs of any size, follow them, read their results, cancel them and"
        " retry them. Every batch is a job, too.",
    },
    {
        "name": OPENAI,
        "description": "Use OpenAI's clients with every provider: set `base_url` to this server's"
        " address and `/v1`.",
    },
    {
        "name": MONITORING,
        "description": "Read the queues, the workers and the problems of this installation, as JSON"
        " or for Prometheus.",
    },
    {
        "name": HEALTH,
        "description": "Check one process or the installation, for example from a load balancer.",
    },
]

# The middleware checks the key; this dependency only documents it.
AUTHENTICATED = Depends(
    HTTPBearer(
        auto_error=False,
        description="Your API key. It is required if `API_KEYS` is set on the server.",
    )
)

# Responses


def _refusal(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"model": Refusal, "description": description, "headers": headers or {}}


_RETRY_AFTER = {
    "Retry-After": {
        "schema": {"type": "integer"},
        "description": "Number of seconds to wait before a retry.",
    }
}
_ACCEPTED_HEADERS = {
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
        "headers": _ACCEPTED_HEADERS,
    }
}
NDJSON_ITEMS = {NDJSON: {"schema": {"$ref": SCHEMA.format(model=JobItem.__name__)}}}
EVENTS: dict[str, Any] = {EVENT_STREAM: {}}  # OpenAPI 3.1 has no schema for events
UNAUTHORIZED: Responses = {401: _refusal("`API_KEYS` is set, and the request has no valid key.")}
NOT_FOUND: Responses = {404: _refusal("You have no such job, or its results have expired.")}
INVALID_CURSOR: Responses = {400: _refusal("The cursor was not returned by this API.")}
NOTHING_TO_RETRY: Responses = {
    409: _refusal("The job has not ended yet, or none of its requests has failed.")
}
UNAVAILABLE: Responses = {
    **UNAUTHORIZED,
    503: _refusal(
        "Redis is unavailable or almost full, or too many requests or large bodies are open.",
        _RETRY_AFTER,
    ),
}
SUBMISSION_REFUSED: Responses = {
    400: _refusal("The body ended early, or cannot be decompressed."),
    408: _refusal("The client stopped sending the body, or sent it too slowly."),
    409: _refusal("The results of the job with this Idempotency-Key have expired."),
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
        _RETRY_AFTER,
    ),
    **UNAVAILABLE,
}

# Under `/v1`


def _openai_refusal(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"model": OpenAIRefusal, "description": description, "headers": headers or {}}


_OPENAI_RETRY_AFTER = {
    "retry-after-ms": {
        "schema": {"type": "integer"},
        "description": "Number of milliseconds to wait before a retry.",
    },
    "x-should-retry": {
        "schema": {"type": "string", "enum": ["true", "false"]},
        "description": "Whether the same request can succeed later. OpenAI's clients obey it.",
    },
    **_RETRY_AFTER,
}
OPENAI_REFUSED: Responses = {
    401: _openai_refusal(UNAUTHORIZED[401]["description"]),
    503: _openai_refusal("Too many requests are open.", _OPENAI_RETRY_AFTER),
}
UNKNOWN_MODEL: Responses = {
    404: _openai_refusal("No configured provider serves the model."),
    **OPENAI_REFUSED,
}
CALL_REFUSED: Responses = {
    400: _openai_refusal(
        "The body is invalid, the provider refused the request, the text is too long"
        " (`context_length_exceeded`), or a moderation refused the text (`content_filter`)."
    ),
    401: _openai_refusal(
        "`API_KEYS` is set, and the request has no valid key; or the provider"
        " refused the server's key."
    ),
    403: _openai_refusal("The provider refused the server's key."),
    404: _openai_refusal("No provider serves the model, or the provider does not have it."),
    408: _openai_refusal(SUBMISSION_REFUSED[408]["description"], _OPENAI_RETRY_AFTER),
    409: _openai_refusal("The job of the call was cancelled, or its results have expired."),
    413: _openai_refusal("The body, as sent or decompressed, is larger than `MAX_BODY_BYTES`."),
    415: _openai_refusal(SUBMISSION_REFUSED[415]["description"]),
    429: _openai_refusal(
        "The provider's rate limit (`rate_limit_exceeded`) or quota (`insufficient_quota`) is used"
        " up, or you have `MAX_QUEUE_DEPTH` requests queued for the provider.",
        _OPENAI_RETRY_AFTER,
    ),
    500: _openai_refusal(
        "Several workers were lost while they ran the request.", _OPENAI_RETRY_AFTER
    ),
    502: _openai_refusal("The provider failed, or sent no answer.", _OPENAI_RETRY_AFTER),
    503: _openai_refusal(
        "The provider is overloaded or cannot be reached, Redis is unavailable, or too many"
        " requests are open.",
        _OPENAI_RETRY_AFTER,
    ),
    504: _openai_refusal("The provider did not answer in time.", _OPENAI_RETRY_AFTER),
}
OPENAI_READ: Responses = {
    401: OPENAI_REFUSED[401],
    404: _openai_refusal("You have no such object, or it has expired."),
    503: _openai_refusal(UNAVAILABLE[503]["description"], _OPENAI_RETRY_AFTER),
}
OPENAI_LISTED: Responses = {
    400: _openai_refusal("The request is invalid. `param` names the field that must change."),
    **OPENAI_READ,
}
OPENAI_STORED: Responses = {
    **OPENAI_LISTED,
    408: _openai_refusal(SUBMISSION_REFUSED[408]["description"], _OPENAI_RETRY_AFTER),
    413: _openai_refusal("The file is larger than `MAX_FILE_BYTES`, or the body is too large."),
    415: _openai_refusal(SUBMISSION_REFUSED[415]["description"]),
    429: _openai_refusal(
        "With this file, you would have more than `MAX_STORED_FILE_BYTES` of files, or more than"
        " `MAX_QUEUE_BYTES` of files and requests; or with this batch, more than `MAX_QUEUE_DEPTH`"
        " requests queued for one provider.",
        _OPENAI_RETRY_AFTER,
    ),
}
OPENAI_CREATED: Responses = {
    **OPENAI_STORED,
    409: _openai_refusal("The results of the batch with this Idempotency-Key have expired."),
}

# Request bodies: the routes read them without FastAPI.

JSON_BODY = {JSON: {"schema": {"$ref": SCHEMA.format(model=BatchLLMRequest.__name__)}}}
NDJSON_BODY = {NDJSON: {"schema": {"$ref": SCHEMA.format(model=LLMRequest.__name__)}}}

OPENAI_BODY: dict[str, Any] = {
    JSON: {"schema": {"type": "object", "description": "The body of OpenAI's API."}}
}
OPENAI_ANSWER: Responses = {
    200: {
        "description": "The body of the provider's answer.",
        "content": {JSON: {"schema": {"type": "object"}}},
        "headers": {"Location": _ACCEPTED_HEADERS["Location"]},
    }
}
OPENAI_STREAM: Responses = {
    200: {**OPENAI_ANSWER[200], "content": {**OPENAI_ANSWER[200]["content"], **EVENTS}}
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
    """Returns the value of a route's `openapi_extra`."""
    return {"requestBody": {"required": True, "content": content}}


def openapi_document(app: FastAPI, providers: list[str]) -> dict[str, Any]:
    """Returns the OpenAPI document. `providers` are the names that a request may have.

    Adds the models that routes read or stream themselves, because FastAPI does not know these.
    """
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=TAGS,
        )
        for path, operations in document["paths"].items():
            if path.startswith(f"{PREFIX}/"):
                for operation in operations.values():
                    operation["responses"].pop("422", None)  # OpenAI's API answers 400
        schemas = document["components"]["schemas"]
        for model in (BatchLLMRequest, LLMRequest, JobItem, NewBatch):
            schema = model.model_json_schema(ref_template=SCHEMA)
            schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
        schemas[LLMRequest.__name__]["properties"]["provider"]["enum"] = providers
        app.openapi_schema = document
    return app.openapi_schema
