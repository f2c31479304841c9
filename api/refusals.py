"""How errors become answers: each exception has its status here, and nowhere else."""

from typing import Any

from fastapi import FastAPI, Request, status
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError

from api.batches import ResultsUnavailable
from shared.jobs import JobNotFound
from shared.models import Refusal
from shared.queue import LaneFull

REDIS_RETRY_AFTER_S = 2
LANE_RETRY_AFTER_S = 5

_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}


def _doc(text: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"model": Refusal, "description": text, "headers": headers or {}}


NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: _doc("No such job, or its results have expired.")
}
UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    503: _doc("Redis cannot be used, or too many requests are open.", _RETRY_AFTER)
}
BATCH_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _doc("The body ended early."),
    413: _doc("The body is larger than `MAX_BODY_BYTES`."),
    415: _doc("Not `application/json`."),
    429: _doc("More than `MAX_QUEUE_DEPTH` items would wait for one provider.", _RETRY_AFTER),
    **UNAVAILABLE,
}


def add_exception_handlers(app: FastAPI) -> None:
    app.add_exception_handler(JobNotFound, _job_not_found)
    app.add_exception_handler(LaneFull, _lane_full)
    app.add_exception_handler(ResultsUnavailable, _results_unavailable)
    app.add_exception_handler(RedisError, _redis_away)
    app.add_exception_handler(OSError, _redis_away)


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
