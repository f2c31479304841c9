"""Describes the responses of the routes under `/v1`, in the form of OpenAI's API."""

from typing import Any

from api.media_types import JSON
from api.openai.schemas import OpenAIRefusal
from api.openapi.responses import (
    ACCEPTED_HEADERS,
    EVENTS,
    RETRY_AFTER,
    SUBMISSION_REFUSED,
    UNAUTHORIZED,
    UNAVAILABLE,
    Responses,
)


def _refusal(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"model": OpenAIRefusal, "description": description, "headers": headers or {}}


_RETRY_HEADERS = {
    "retry-after-ms": {
        "schema": {"type": "integer"},
        "description": "Number of milliseconds to wait before a retry.",
    },
    "x-should-retry": {
        "schema": {"type": "string", "enum": ["true", "false"]},
        "description": "Whether a repetition can succeed. OpenAI's clients obey this header.",
    },
    **RETRY_AFTER,
}
OPENAI_REFUSED: Responses = {
    401: _refusal(UNAUTHORIZED[401]["description"]),
    503: _refusal("Too many requests are open.", _RETRY_HEADERS),
}
UNKNOWN_MODEL: Responses = {
    404: _refusal("No configured provider serves the model."),
    **OPENAI_REFUSED,
}
CALL_REFUSED: Responses = {
    400: _refusal(
        "The body is invalid, the provider refused the request, the text is too long"
        " (`context_length_exceeded`), or the provider's moderation refused it (`content_filter`)."
    ),
    401: _refusal(
        "`API_KEYS` is set, and the request has no valid key; or the provider"
        " refused the server's key."
    ),
    403: _refusal("The provider refused the server's key."),
    404: _refusal("No provider serves the model, or the provider does not have it."),
    408: _refusal(SUBMISSION_REFUSED[408]["description"], _RETRY_HEADERS),
    409: _refusal("The job of the call was cancelled, or its results have expired."),
    413: _refusal("The body, as sent or decompressed, is larger than `MAX_BODY_BYTES`."),
    415: _refusal(SUBMISSION_REFUSED[415]["description"]),
    429: _refusal(
        "The provider's rate limit (`rate_limit_exceeded`) or quota (`insufficient_quota`) is used"
        " up, or you have too many requests queued (`MAX_QUEUE_DEPTH`, `MAX_QUEUE_BYTES`).",
        _RETRY_HEADERS,
    ),
    500: _refusal(
        "Several workers were lost while they ran the request, or this server or the provider"
        " failed unexpectedly.",
        _RETRY_HEADERS,
    ),
    502: _refusal(
        "The provider failed, or sent an answer that is invalid or too large.", _RETRY_HEADERS
    ),
    503: _refusal(
        "The provider is overloaded or cannot be reached, Redis is unavailable or almost full, too"
        " many requests or large bodies are open, or this server stops.",
        _RETRY_HEADERS,
    ),
    504: _refusal("The provider did not answer in time.", _RETRY_HEADERS),
}
OPENAI_READ: Responses = {
    401: OPENAI_REFUSED[401],
    404: _refusal("You have no such object, or it has expired."),
    503: _refusal(UNAVAILABLE[503]["description"], _RETRY_HEADERS),
}
OPENAI_LISTED: Responses = {
    400: _refusal("The request is invalid. `param` names the field that must change."),
    **OPENAI_READ,
}
OPENAI_STORED: Responses = {
    **OPENAI_LISTED,
    408: _refusal(SUBMISSION_REFUSED[408]["description"], _RETRY_HEADERS),
    413: _refusal("The file is larger than `MAX_FILE_BYTES`, or the body is too large."),
    415: _refusal(SUBMISSION_REFUSED[415]["description"]),
    429: _refusal(
        "With this file, you would have more than `MAX_STORED_FILE_BYTES` of files, or more than"
        " 10,000 files. Or with this file or batch, you would have more than `MAX_QUEUE_BYTES` of"
        " files and requests. Or with this batch, you would have more than `MAX_QUEUE_DEPTH`"
        " requests queued for one provider.",
        _RETRY_HEADERS,
    ),
}
OPENAI_CREATED: Responses = {
    **OPENAI_STORED,
    409: _refusal("The results of the batch with this Idempotency-Key have expired."),
}
OPENAI_ANSWER: Responses = {
    200: {
        "description": "The body of the provider's answer.",
        "content": {JSON: {"schema": {"type": "object"}}},
        "headers": {"Location": ACCEPTED_HEADERS["Location"]},
    }
}
OPENAI_STREAM: Responses = {
    200: {**OPENAI_ANSWER[200], "content": {**OPENAI_ANSWER[200]["content"], **EVENTS}}
}
