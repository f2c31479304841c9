"""Maps exceptions to HTTP responses: status, text and headers.

An HTTPException or OpenAIError brings its own status and text. The middleware refuses some requests
itself, before a route runs.
"""

from dataclasses import dataclass, field

from fastapi import FastAPI, Request, status
from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
)
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from structlog.contextvars import get_contextvars

from api.errors.error_body import refusal
from api.errors.exception_types import (
    ClientDisconnected,
    FormatMismatch,
    IdempotencyResultExpired,
    InvalidCursor,
    ResultsUnavailable,
)
from api.errors.openai_errors import (
    OpenAIError,
    error_response,
    is_openai,
    unknown_url,
    validation_refusal,
)
from api.errors.validation_error import validation_error
from shared.files.errors import FileExpired, FileNotFound, StorageFull
from shared.files.upload import MAX_FILES
from shared.jobs.batch_store import BatchNotFound
from shared.jobs.result_reader import CursorOutOfRange
from shared.jobs.service import JobNotFound, NothingToRetry
from shared.jobs.submission import (
    IdempotencyConflict,
    QueueBytesFull,
    QueueFull,
    TooManyFallbacks,
    UploadExpired,
)
from shared.memory_budget import MemoryFull
from shared.redis.client import RedisFull, RedisUnavailable

REDIS_RETRY_AFTER_S = 2
FULL_RETRY_AFTER_S = 10
QUEUE_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """Holds a response. `detail` and the values of the headers are format strings, in which
    `{error}` stands for the exception."""

    status_code: int
    detail: str
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(self, request: Request, error: Exception) -> JSONResponse:
        headers = {name: value.format(error=error) for name, value in self.headers.items()}
        detail = self.detail.format(error=error)
        return refusal(request.scope, self.status_code, detail, headers)


ERROR_RESPONSES: dict[type[Exception], ErrorResponse] = {
    InvalidCursor: ErrorResponse(
        status.HTTP_400_BAD_REQUEST,
        "the value of {error.parameter} is not a cursor that this API has returned",
    ),
    CursorOutOfRange: ErrorResponse(
        status.HTTP_400_BAD_REQUEST, "the cursor is beyond the job's last request"
    ),
    JobNotFound: ErrorResponse(
        status.HTTP_404_NOT_FOUND, "you have no such job, or its results have expired"
    ),
    BatchNotFound: ErrorResponse(
        status.HTTP_404_NOT_FOUND, "you have no batch {error.batch_id!r}, or it has expired"
    ),
    FileNotFound: ErrorResponse(
        status.HTTP_404_NOT_FOUND, "you have no file {error.file_id!r}, or it has expired"
    ),
    FileExpired: ErrorResponse(
        status.HTTP_408_REQUEST_TIMEOUT,
        "the upload took too long, and nothing was stored; send the file again",
    ),
    StorageFull: ErrorResponse(
        status.HTTP_429_TOO_MANY_REQUESTS,
        "with this file, you would have more than MAX_STORED_FILE_BYTES of files, or more than"
        f" {MAX_FILES} files; nothing was stored. Delete files that you no longer need",
        {"x-should-retry": "false"},
    ),
    UploadExpired: ErrorResponse(
        status.HTTP_408_REQUEST_TIMEOUT,
        "the upload took too long, and nothing was accepted; submit the requests again",
    ),
    ClientDisconnected: ErrorResponse(  # no client reads this response, but the metrics count it
        status.HTTP_408_REQUEST_TIMEOUT, "the client disconnected"
    ),
    NothingToRetry: ErrorResponse(status.HTTP_409_CONFLICT, "{error}"),
    IdempotencyResultExpired: ErrorResponse(
        status.HTTP_409_CONFLICT,
        "the results of the job with this Idempotency-Key have expired; use a new key to run it"
        " again",
    ),
    QueueFull: ErrorResponse(
        status.HTTP_429_TOO_MANY_REQUESTS,
        "with this job, you would have more than MAX_QUEUE_DEPTH requests queued for"
        " {error.shown_lane};"
        " nothing was accepted. Try again later, or with fewer requests",
        {"Retry-After": str(QUEUE_RETRY_AFTER_S)},
    ),
    QueueBytesFull: ErrorResponse(
        status.HTTP_429_TOO_MANY_REQUESTS,
        "with this job or file, the requests of your unfinished jobs and your files would exceed"
        " MAX_QUEUE_BYTES; nothing was accepted. Try again later, with fewer requests, or delete"
        " files that you no longer need",
        {"Retry-After": str(QUEUE_RETRY_AFTER_S)},
    ),
    MemoryFull: ErrorResponse(
        status.HTTP_503_SERVICE_UNAVAILABLE,
        "the requests that this server is receiving fill API_MEMORY_BYTES; try again later",
        {"Retry-After": "1", "Connection": "close"},  # because the rest of the body is not read
    ),
    ResultsUnavailable: ErrorResponse(
        status.HTTP_503_SERVICE_UNAVAILABLE,
        "the job was accepted, but its status cannot be read at the moment; get the status later"
        " from the URL in the Location header",
        {"Retry-After": str(REDIS_RETRY_AFTER_S), "Location": "/jobs/{error.job_id}"},
    ),
    RedisFull: ErrorResponse(
        status.HTTP_503_SERVICE_UNAVAILABLE,
        "{error}; accepted requests continue, and new requests are refused until there is room; try"
        " again later",
        {"Retry-After": str(FULL_RETRY_AFTER_S)},
    ),
    RedisUnavailable: ErrorResponse(
        status.HTTP_503_SERVICE_UNAVAILABLE,
        "Redis is unavailable; try again later",
        {"Retry-After": str(REDIS_RETRY_AFTER_S)},
    ),
}


def add_exception_handlers(app: FastAPI) -> None:
    for error, response in ERROR_RESPONSES.items():
        app.add_exception_handler(error, response)
    app.exception_handler(IdempotencyConflict)(_idempotency_conflict)
    app.exception_handler(TooManyFallbacks)(_too_many_fallbacks)
    app.exception_handler(FormatMismatch)(_format_mismatch)
    app.exception_handler(RequestValidationError)(_invalid_request)
    app.exception_handler(HTTPException)(_http_exception)
    app.exception_handler(OpenAIError)(_openai_error)
    app.exception_handler(Exception)(_unexpected)


async def _idempotency_conflict(request: Request, _error: Exception) -> Response:
    return await _invalid_request(
        request,
        validation_error(
            "this Idempotency-Key was used before, with different requests or options",
            "header",
            "Idempotency-Key",
        ),
    )


async def _too_many_fallbacks(request: Request, error: Exception) -> Response:
    return await _invalid_request(request, validation_error(str(error), "body"))


async def _format_mismatch(request: Request, error: Exception) -> Response:
    return await _invalid_request(request, validation_error(str(error), "query", "format"))


async def _invalid_request(request: Request, error: RequestValidationError) -> Response:
    if is_openai(request.scope):
        return error_response(validation_refusal(list(error.errors())))
    return await request_validation_exception_handler(request, error)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    if not is_openai(request.scope):
        return await http_exception_handler(request, error)
    if error.status_code == status.HTTP_404_NOT_FOUND:
        return error_response(unknown_url(request.scope))
    return refusal(request.scope, error.status_code, str(error.detail), error.headers)


async def _openai_error(_request: Request, error: OpenAIError) -> Response:
    return error_response(error)


async def _unexpected(request: Request, _error: Exception) -> Response:
    """Answers 500. The server logs the exception, because the framework raises it again."""
    if not is_openai(request.scope):
        return PlainTextResponse("Internal Server Error", status.HTTP_500_INTERNAL_SERVER_ERROR)
    return refusal(
        request.scope,
        status.HTTP_500_INTERNAL_SERVER_ERROR,
        "this server has failed unexpectedly; its log has the reason",
        {"X-Request-ID": get_contextvars().get("request", "")},
    )
