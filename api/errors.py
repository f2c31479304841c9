"""How errors become answers: each exception has its status here, and nowhere else."""

from typing import Any

from fastapi import FastAPI, Request, status
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError

from api.batches import IdempotencyResultExpired, ResultsUnavailable
from api.streaming import ClientGone
from shared.jobs.service import JobNotFound, NothingToRetry
from shared.jobs.store import IdempotencyConflict, QueueFull, UploadTooSlow
from shared.models import Refusal

REDIS_RETRY_AFTER_S = 2
LANE_RETRY_AFTER_S = 5

_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}


def _doc(text: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"model": Refusal, "description": text, "headers": headers or {}}


Responses = dict[int | str, dict[str, Any]]

UNAUTHORIZED: Responses = {401: _doc("`API_KEYS` is set, and the key is none of them.")}
NOT_FOUND: Responses = {404: _doc("No such job, or its results have expired.")}
BAD_POSITION: Responses = {400: _doc("A position that was not given out.")}
CONFLICT: Responses = {409: _doc("The job has not ended, or nothing has failed.")}
UNAVAILABLE: Responses = {
    **UNAUTHORIZED,
    503: _doc("Redis cannot be used, or too many requests are open.", _RETRY_AFTER),
}
BATCH_REFUSALS: Responses = {
    400: _doc("The body ended early."),
    408: _doc("The body stopped coming."),
    409: _doc("The results of the job that the Idempotency-Key has made have expired."),
    413: _doc("Larger than `MAX_BODY_BYTES`; of NDJSON, `MAX_JOB_BYTES` or `MAX_JOB_ITEMS`."),
    415: _doc("Not a type that is documented."),
    429: _doc("More than `MAX_QUEUE_DEPTH` items would wait for one provider.", _RETRY_AFTER),
    **UNAVAILABLE,
}


def add_exception_handlers(app: FastAPI) -> None:
    app.add_exception_handler(JobNotFound, _job_not_found)
    app.add_exception_handler(QueueFull, _lane_full)
    app.add_exception_handler(IdempotencyConflict, _key_reused)
    app.add_exception_handler(UploadTooSlow, _upload_too_slow)
    app.add_exception_handler(IdempotencyResultExpired, _key_outlived_job)
    app.add_exception_handler(NothingToRetry, _nothing_to_retry)
    app.add_exception_handler(ClientGone, _client_gone)
    app.add_exception_handler(ResultsUnavailable, _results_unavailable)
    app.add_exception_handler(RedisError, _redis_away)
    app.add_exception_handler(OSError, _redis_away)


def validation_error(message: str, *where: str | int) -> RequestValidationError:
    """In the form of those that pydantic finds."""
    return RequestValidationError([{"type": "value_error", "loc": where, "msg": message}])


def _refuse(code: int, detail: str, **headers: str | int) -> JSONResponse:
    return JSONResponse(
        {"detail": detail},
        code,
        headers={name.replace("_", "-"): str(value) for name, value in headers.items()},
    )


async def _job_not_found(_request: Request, _error: Exception) -> JSONResponse:
    return _refuse(status.HTTP_404_NOT_FOUND, "no such job, or its results have expired")


async def _lane_full(_request: Request, error: Exception) -> JSONResponse:
    return _refuse(
        status.HTTP_429_TOO_MANY_REQUESTS,
        f"too many requests wait for {error}: nothing of this batch was accepted",
        Retry_After=LANE_RETRY_AFTER_S,
    )


async def _key_reused(request: Request, _error: Exception) -> JSONResponse:
    return await request_validation_exception_handler(
        request, validation_error("the key was used for another body", "header", "Idempotency-Key")
    )


async def _upload_too_slow(_request: Request, _error: Exception) -> JSONResponse:
    return _refuse(status.HTTP_408_REQUEST_TIMEOUT, "the upload took too long")


async def _key_outlived_job(_request: Request, _error: Exception) -> JSONResponse:
    return _refuse(
        status.HTTP_409_CONFLICT, "the results of the job that this key has made have expired"
    )


async def _nothing_to_retry(_request: Request, error: Exception) -> JSONResponse:
    return _refuse(status.HTTP_409_CONFLICT, str(error))


async def _client_gone(_request: Request, _error: Exception) -> JSONResponse:
    """Nobody reads it."""
    return _refuse(status.HTTP_408_REQUEST_TIMEOUT, "the client has gone")


async def _results_unavailable(_request: Request, error: Exception) -> JSONResponse:
    return _refuse(
        status.HTTP_503_SERVICE_UNAVAILABLE,
        "the batch was accepted and goes on, but its state cannot be read now: ask at Location",
        Retry_After=REDIS_RETRY_AFTER_S,
        Location=f"/jobs/{error}",
    )


async def _redis_away(_request: Request, _error: Exception) -> JSONResponse:
    return _refuse(
        status.HTTP_503_SERVICE_UNAVAILABLE,
        "the queue cannot be used now",
        Retry_After=REDIS_RETRY_AFTER_S,
    )
