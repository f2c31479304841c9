"""The endpoints."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response, status
from redis.exceptions import RedisError

from api.body import BatchBody
from api.dependencies import BatchesDep, JobsDep, QueueDep, SettingsDep
from api.prefer import parse_prefer
from api.refusals import BATCH_REFUSALS, NOT_FOUND, UNAVAILABLE
from shared.jobs import finished_batch
from shared.models import BatchLLMRequest, BatchLLMResponse, Health, JobStatus, Readiness

router = APIRouter()

_JOB_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "Where to ask for the job."},
    "Preference-Applied": {"schema": {"type": "string"}, "description": "RFC 7240."},
}
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": JobStatus,
        "description": "The job goes on: asked for so, or the wait is over.",
        "headers": _JOB_HEADERS,
    }
}
_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{BatchLLMRequest.__name__}"}}
    },
}


@router.get("/health")
async def health() -> Health:
    """The process answers; touches nothing else."""
    return Health()


@router.get(
    "/health/ready",
    responses={503: {"model": Readiness, "description": "Redis or every worker is away."}},
)
async def ready(queue: QueueDep, response: Response) -> Readiness:
    """Redis answers and a worker is alive."""
    try:
        workers = len(await queue.workers())
    except (RedisError, OSError):
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Readiness(status="not_ready", redis="unreachable", workers=None)
    if not workers:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return Readiness(status="ready" if workers else "not_ready", redis="ok", workers=workers)


@router.post(
    "/batch",
    response_model=BatchLLMResponse,
    responses={**_ACCEPTED, **BATCH_REFUSALS},
    openapi_extra={"requestBody": _BODY},
)
async def post_batch(
    batch: BatchBody,
    batches: BatchesDep,
    settings: SettingsDep,
    mode: Annotated[Literal["sync", "async"], Query()] = "sync",
    prefer: Annotated[
        list[str], Header(description="`respond-async`, `wait=SECONDS` or both (RFC 7240).")
    ] = [],  # noqa: B006 — FastAPI copies it
) -> Response:
    """Runs a batch of 1 to 100 requests; the answers come in the order of the requests.

    A request that fails does not fail the batch: it is a 200 with an `error` in that response."""
    preferences = parse_prefer(", ".join(prefer))
    wait_s = 0.0
    if mode == "sync":
        # Both together ask for a 202 only when the wait is over (RFC 7240, 4.3).
        asked_s = 0 if preferences.respond_async else settings.sync_wait_seconds
        if preferences.wait_s is not None:
            asked_s = preferences.wait_s
        wait_s = min(asked_s, settings.sync_wait_seconds)
    job = await batches.run(batch, wait_s=wait_s)
    headers = {"Location": f"/jobs/{job.job_id}"}
    if preferences.applied:
        headers["Preference-Applied"] = preferences.applied
    done = finished_batch(job) if wait_s else None
    if done is None:
        return _json(job, status.HTTP_202_ACCEPTED, headers)
    return _json(done, status.HTTP_200_OK, headers)


@router.get("/jobs/{job_id}", responses={**NOT_FOUND, **UNAVAILABLE})
async def get_job(job_id: str, jobs: JobsDep) -> JobStatus:
    """The state of a job, with the answers so far; all of a batch's answer once it is done."""
    return await jobs.status(job_id)


@router.delete("/jobs/{job_id}", responses={**NOT_FOUND, **UNAVAILABLE})
async def cancel_job(job_id: str, jobs: JobsDep) -> JobStatus:
    """Cancels: what waits ends as `cancelled`, running calls are stopped, finished answers stay."""
    return await jobs.cancel(job_id)


def _json(model: BatchLLMResponse | JobStatus, code: int, headers: dict[str, str]) -> Response:
    return Response(model.model_dump_json(), code, headers, media_type="application/json")
