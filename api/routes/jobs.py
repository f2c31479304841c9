"""Serves `/jobs`."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response, status
from pydantic import AfterValidator

from api.asgi_scope import MEMORY
from api.dependencies.cursors import AfterCursor, PageCursor
from api.dependencies.job_query import JobOptionsQuery, VendorOptionsQuery
from api.dependencies.request_headers import IdempotencyKey, LastEventId
from api.dependencies.services import DisconnectDep, JobsDep, OwnerDep, ServicesDep
from api.jobs.job_streams import ItemOutcome
from api.jobs.webhook_check import check_webhook
from api.openapi.request_bodies import JSON_BODY, NDJSON_BODY, request_body
from api.openapi.responses import (
    ACCEPTED,
    EVENTS,
    INVALID_CURSOR,
    NDJSON_ITEMS,
    NOT_FOUND,
    NOTHING_TO_RETRY,
    SUBMISSION_REFUSED,
    UNAVAILABLE,
)
from api.openapi.security_scheme import AUTHENTICATED
from api.openapi.tags import JOBS
from api.requests.reader import RequestReader
from api.streams.stream_response import StreamResponse
from api.streams.vendor_results import ResultFormat
from shared.jobs.result_reader import Order
from shared.jobs.submission import Submission
from shared.models import (
    Job,
    JobList,
    JobStatus,
)
from shared.queue.ids import job_id_of

MAX_PAGE_JOBS = 100

JobId = Annotated[
    str,
    Path(description="The `job_id` of one of your jobs, or the `id` of one of your batches."),
    AfterValidator(job_id_of),
]

router = APIRouter(tags=[JOBS], dependencies=[AUTHENTICATED])


@router.post(
    "/jobs",
    summary="Submit a job",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Job,
    responses={**ACCEPTED, **SUBMISSION_REFUSED},
    openapi_extra=request_body({**JSON_BODY, **NDJSON_BODY}),
)
async def post_job(
    request: Request,
    services: ServicesDep,
    owner: OwnerDep,
    key: IdempotencyKey,
    wait_for_disconnect: DisconnectDep,
    job_options: JobOptionsQuery,
    vendor_options: VendorOptionsQuery,
) -> Response:
    """Submit a job, as JSON like in `POST /batch`, or as NDJSON with one request per line.

    JSON may also be one or more requests without a batch around them, or the body of a request to
    Anthropic's batch API, `{"requests": [{"custom_id": …, "params": …}]}`.

    A line is a request as in `POST /batch`, a request as OpenAI, Anthropic or Gemini define it for
    their batches, or only the body of such a request. The media types `application/jsonl`,
    `application/x-jsonlines`, `text/plain` and `application/octet-stream` are accepted as NDJSON,
    unless a page of another site sends them.

    If one line is invalid, the response is a 422 with the line's number, and no request runs."""
    reader = RequestReader(request, services.settings, services.catalogue)
    items, options = await reader.job(job_options, vendor_options)
    check_webhook(options.webhook_url, services.settings)
    submission = Submission(
        owner=owner,
        deadline_s=options.deadline_s,
        webhook_url=options.webhook_url,
        idempotency_key=key,
    )
    job = await services.job_starter.start(
        items, submission, wait_for_disconnect=wait_for_disconnect
    )
    return services.job_responses.accepted(job)


@router.get("/jobs", summary="List your jobs", responses={**INVALID_CURSOR, **UNAVAILABLE})
async def list_jobs(
    jobs: JobsDep,
    owner: OwnerDep,
    before_us: PageCursor,
    state: Annotated[
        JobStatus | None, Query(alias="status", description="Returns only jobs with this status.")
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_PAGE_JOBS, description="The maximum number of jobs on a page.")
    ] = 20,
) -> JobList:
    """Return your jobs, newest first.

    With `status`, a page may have fewer than `limit` jobs although it is not the last page."""
    found, before_us = await jobs.list_jobs(owner, state, before_us, limit)
    return JobList(jobs=found, next_cursor=None if before_us is None else str(before_us))


@router.get(
    "/jobs/{job_id}",
    summary="Get a job",
    response_model=Job,
    responses={**NOT_FOUND, **UNAVAILABLE},
)
async def get_job(job_id: JobId, services: ServicesDep, owner: OwnerDep) -> Response:
    """Return the status of a job and, if it has up to 100 requests, the results so far.

    When the job has ended, the response includes everything that `POST /batch` returns."""
    return services.job_responses.job(await services.jobs.get(job_id, owner))


@router.delete(
    "/jobs/{job_id}",
    summary="Cancel a job",
    response_model=Job,
    responses={**NOT_FOUND, **UNAVAILABLE},
)
async def cancel_job(job_id: JobId, services: ServicesDep, owner: OwnerDep) -> Response:
    """Cancel a job. Its queued and running requests finish as `cancelled`, running calls are
    stopped, and finished requests keep their results."""
    return services.job_responses.job(await services.jobs.cancel(job_id, owner))


@router.post(
    "/jobs/{job_id}/retry",
    summary="Retry the failed requests of a job",
    status_code=status.HTTP_202_ACCEPTED,
    responses={**ACCEPTED, **NOT_FOUND, **NOTHING_TO_RETRY, **UNAVAILABLE},
)
async def retry_job(
    request: Request, job_id: JobId, services: ServicesDep, owner: OwnerDep
) -> Response:
    """Run the failed requests of a job again, as a new job. The old job does not change.

    The requests keep their order. A second retry of the old job returns the same new job."""
    new_job_id = await services.jobs.retry(job_id, Submission(owner=owner), request.scope[MEMORY])
    return services.job_responses.accepted(await services.jobs.get(new_job_id, owner))


@router.get(
    "/jobs/{job_id}/results",
    summary="Stream the results of a job",
    response_class=Response,
    responses={200: {"content": NDJSON_ITEMS}, **INVALID_CURSOR, **NOT_FOUND, **UNAVAILABLE},
)
async def get_results(
    job_id: JobId,
    services: ServicesDep,
    owner: OwnerDep,
    after: AfterCursor,
    order: Annotated[
        Order,
        Query(
            description="`index` for the order of the requests, `completion` for the order in"
            " which the requests finish."
        ),
    ] = Order.INDEX,
    outcome: Annotated[
        ItemOutcome | None,
        Query(alias="status", description="Returns only results with this outcome."),
    ] = None,
    limit: Annotated[int | None, Query(ge=1, description="The maximum number of lines.")] = None,
    *,
    follow: Annotated[
        bool,
        Query(
            description="`true` waits for unfinished requests. `false` ends the response at the"
            " first unfinished request."
        ),
    ] = True,
    content: Annotated[
        bool, Query(description="`false` returns the results without the answers.")
    ] = True,
    result_format: Annotated[
        ResultFormat,
        Query(
            alias="format",
            description="The format of the results: `native`, or the format in which the vendor"
            " writes the results of its own batches. It must be the vendor whose format the job's"
            " requests have; native requests also have results as `openai`.",
        ),
    ] = ResultFormat.NATIVE,
) -> StreamResponse:
    """Stream the results as NDJSON, one result per line."""
    return await services.job_streams.results(
        job_id,
        owner,
        order=order,
        outcome=outcome,
        after=after,
        limit=limit,
        follow=follow,
        content=content,
        result_format=result_format,
    )


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=Response,
    responses={
        200: {"content": EVENTS},
        204: {
            "description": "You have read all events. This status tells an EventSource not to"
            " reconnect."
        },
        **INVALID_CURSOR,
        **NOT_FOUND,
        **UNAVAILABLE,
    },
)
async def get_events(
    job_id: JobId, services: ServicesDep, owner: OwnerDep, last_event_id: LastEventId
) -> Response:
    """Stream server-sent events: an `item` when a request has finished, and `done` with the status
    when the job has ended."""
    stream = await services.job_streams.events(job_id, owner, last_event_id=last_event_id)
    return stream or Response(status_code=status.HTTP_204_NO_CONTENT)
