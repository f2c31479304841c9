"""The endpoints for a process and for a batch."""

from time import monotonic
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status
from redis.exceptions import RedisError

from api.accept import preferred
from api.batches import STATUS_AT_LEAST_S, ResultsUnavailable
from api.dependencies import QueueDep, ServicesDep
from api.errors import BATCH_REFUSALS, UNAUTHORIZED
from api.idempotency import IdempotencyKey
from api.middleware.authentication import BEARER, OwnerDep
from api.prefer import parse_prefer
from api.request_body import JSON, BatchBody
from api.result_stream import Interrupted
from api.streaming import EVENT_STREAM, FORMATS, NDJSON, Format, Stream, encode_pages
from api.submissions import submission
from shared.jobs.result_reader import JobReader, Order
from shared.jobs.service import finished_batch, to_async
from shared.jobs.store import Submission
from shared.models import BatchLLMRequest, BatchLLMResponse, Health, Job, JobItem, Readiness

router = APIRouter()

JOB_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "Where to ask for the job."},
    "Preference-Applied": {"schema": {"type": "string"}, "description": "RFC 7240."},
}
ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": Job,
        "description": "The job goes on: asked for so, or the wait is over.",
        "headers": JOB_HEADERS,
    }
}
JSON_BODY = {JSON: {"schema": {"$ref": f"#/components/schemas/{BatchLLMRequest.__name__}"}}}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            NDJSON: {"schema": {"$ref": f"#/components/schemas/{JobItem.__name__}"}},
            EVENT_STREAM: {},  # OpenAPI 3.1 has no words for events
        }
    }
}


@router.get("/health")
async def health() -> Health:
    """The process answers; touches nothing else."""
    return Health()


@router.get(
    "/health/ready",
    dependencies=[Depends(BEARER)],
    responses={
        **UNAUTHORIZED,
        503: {"model": Readiness, "description": "Redis or every worker is away."},
    },
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
    dependencies=[Depends(BEARER)],
    responses={**STREAMED, **ACCEPTED, **BATCH_REFUSALS},
    openapi_extra={"requestBody": {"required": True, "content": JSON_BODY}},
)
async def post_batch(
    batch: BatchBody,
    services: ServicesDep,
    owner: OwnerDep,
    request: Request,
    key: IdempotencyKey,
    mode: Annotated[Literal["sync", "async"], Query()] = "sync",
    accept: Annotated[
        str, Header(description=f"`{NDJSON}` or `{EVENT_STREAM}`: each item the moment it ends.")
    ] = "*/*",
    prefer: Annotated[
        list[str], Header(description="`respond-async`, `wait=SECONDS` or both (RFC 7240).")
    ] = [],  # noqa: B006 — FastAPI copies it
) -> Response:
    """Runs a batch of 1 to 100 requests; the answers come in the order of the requests.

    A request that fails does not fail the batch: it is a 200 with an `error` in that response."""
    settings, batches = services.settings, services.batches
    preferences = parse_prefer(", ".join(prefer))
    wait_s = 0.0
    if mode == "sync":
        # Both together ask for a 202 only when the wait is over (RFC 7240, 4.3).
        asked_s = 0 if preferences.respond_async else settings.sync_wait_seconds
        if preferences.wait_s is not None:
            asked_s = preferences.wait_s
        wait_s = min(asked_s, settings.sync_wait_seconds)
    applied = {"Preference-Applied": preferences.applied} if preferences.applied else {}
    form = FORMATS.get(preferred(accept, (JSON, *FORMATS), JSON)) if wait_s else None
    asked = submission(
        settings,
        owner,
        options=batch,
        key=key,
        interactive=wait_s > 0,
        followed=form is not None,
    )
    requests = to_async(batch.requests)
    if form:
        accepted = await batches.submit(requests, asked)
        return _stream(services, accepted.job_id, asked, form, wait_s, applied)
    if wait_s:
        job = await batches.run(requests, asked, wait_s=wait_s, receive=request.receive)
    else:
        job = await batches.submit(requests, asked)
    headers = {"Location": f"/jobs/{job.job_id}", **applied}
    done = finished_batch(job) if wait_s else None
    if done is None:
        return as_json(job, status.HTTP_202_ACCEPTED, headers)
    return as_json(done, status.HTTP_200_OK, headers)


def _stream(
    services: ServicesDep,
    job_id: str,
    asked: Submission,
    form: Format,
    wait_s: float,
    applied: dict[str, str],
) -> Stream:
    reader = JobReader(services.store, job_id, asked.owner, order=Order.COMPLETION, position=0)
    until = monotonic() + wait_s

    async def summary() -> Job:
        patience_s = max(until - monotonic(), STATUS_AT_LEAST_S)
        try:
            return await services.batches.status(job_id, asked, patience_s)
        except ResultsUnavailable:
            raise Interrupted from None

    return Stream(
        encode_pages(services.following.pages(reader, until=until), form, summary=summary),
        form.media_type,
        headers={"Location": f"/jobs/{job_id}", **applied},
        when_gone=lambda: services.batches.abandon(job_id, asked),
    )


def as_json(model: BatchLLMResponse | Job, code: int, headers: dict[str, str]) -> Response:
    return Response(model.model_dump_json(), code, headers, media_type=JSON)
