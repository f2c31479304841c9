"""The response to each exception: this is the only place that gives them a status code."""

from dataclasses import dataclass, field

from fastapi import FastAPI, Request, status
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from api.batches import IdempotencyResultExpired, ResultsUnavailable
from api.cursors import InvalidCursor
from api.disconnect import ClientDisconnected
from shared.jobs.result_reader import CursorOutOfRange
from shared.jobs.service import JobNotFound, NothingToRetry
from shared.jobs.submission import IdempotencyConflict, QueueFull, UploadExpired
from shared.redis.client import RedisUnavailable

REDIS_RETRY_AFTER_S = 2
QUEUE_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """`detail` and the headers' values are formats: `{error}` is the exception."""

    status_code: int
    detail: str
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(self, _request: Request, error: Exception) -> JSONResponse:
        headers = {name: value.format(error=error) for name, value in self.headers.items()}
        detail = self.detail.format(error=error)
        return JSONResponse({"detail": detail}, self.status_code, headers=headers)


ERROR_RESPONSES: dict[type[Exception], ErrorResponse] = {
    InvalidCursor: ErrorResponse(
        status.HTTP_400_BAD_REQUEST,
        "{error.parameter} is not a cursor that this API has returned",
    ),
    CursorOutOfRange: ErrorResponse(
        status.HTTP_400_BAD_REQUEST, "the cursor is beyond the job's last item"
    ),
    JobNotFound: ErrorResponse(
        status.HTTP_404_NOT_FOUND, "no such job, or its results have expired"
    ),
    UploadExpired: ErrorResponse(
        status.HTTP_408_REQUEST_TIMEOUT,
        "the upload took too long and nothing was accepted; send it again",
    ),
    ClientDisconnected: ErrorResponse(  # nobody reads it, but the metrics count its status
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
        "the queue for {error.lane} is full (MAX_QUEUE_DEPTH); nothing was accepted, try again"
        " later",
        {"Retry-After": str(QUEUE_RETRY_AFTER_S)},
    ),
    ResultsUnavailable: ErrorResponse(
        status.HTTP_503_SERVICE_UNAVAILABLE,
        "the batch was accepted and is running, but its status is temporarily unavailable; poll"
        " the Location URL",
        {"Retry-After": str(REDIS_RETRY_AFTER_S), "Location": "/jobs/{error.job_id}"},
    ),
    RedisUnavailable: ErrorResponse(
        status.HTTP_503_SERVICE_UNAVAILABLE,
        "Redis is unreachable; try again in a few seconds",
        {"Retry-After": str(REDIS_RETRY_AFTER_S)},
    ),
}


def add_exception_handlers(app: FastAPI) -> None:
    for error, response in ERROR_RESPONSES.items():
        app.add_exception_handler(error, response)
    app.add_exception_handler(IdempotencyConflict, _idempotency_conflict)


def validation_error(message: str, *location: str | int) -> RequestValidationError:
    """Returns an error in the form of those that pydantic finds, for a 422 response."""
    return RequestValidationError([{"type": "value_error", "loc": location, "msg": message}])


async def _idempotency_conflict(request: Request, _error: Exception) -> JSONResponse:
    return await request_validation_exception_handler(
        request,
        validation_error(
            "the key was used for a request with another body", "header", "Idempotency-Key"
        ),
    )
