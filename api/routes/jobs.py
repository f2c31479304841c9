"""The endpoints for jobs of any size."""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response, status

from api.dependencies import JobsDep, ServicesDep, SettingsDep
from api.errors import BAD_POSITION, BATCH_REFUSALS, CONFLICT, NOT_FOUND, UNAVAILABLE
from api.idempotency import IdempotencyKey
from api.middleware.authentication import BEARER, OwnerDep
from api.request_body import JSON, read_batch, read_lines, require_type
from api.routes.batches import ACCEPTED, JSON_BODY, STREAMED, as_json
from api.streaming import EVENT_STREAM, FORMATS, NDJSON, Stream, encode_pages, filter_items
from api.submissions import submission
from shared.jobs.result_reader import JobReader, Order
from shared.jobs.service import to_async
from shared.models import (
    MAX_DEADLINE_S,
    Job,
    JobItem,
    JobList,
    JobOptions,
    JobStatus,
    LLMRequest,
    WebhookUrl,
)

MAX_LISTED = 100
MAX_DIGITS = 18

router = APIRouter(dependencies=[Depends(BEARER)])

_BODY = {
    "required": True,
    "content": {
        **JSON_BODY,
        NDJSON: {"schema": {"$ref": f"#/components/schemas/{LLMRequest.__name__}"}},
    },
}


@router.post(
    "/jobs",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Job,
    responses={**ACCEPTED, **BATCH_REFUSALS},
    openapi_extra={"requestBody": _BODY},
)
async def post_job(
    request: Request,
    services: ServicesDep,
    settings: SettingsDep,
    owner: OwnerDep,
    key: IdempotencyKey,
    deadline_s: Annotated[
        float | None, Query(gt=0, le=MAX_DEADLINE_S, description="For NDJSON; JSON has a field.")
    ] = None,
    webhook_url: Annotated[
        WebhookUrl | None, Query(description="For NDJSON; JSON has a field.")
    ] = None,
) -> Response:
    """Accepts a job: the JSON of `POST /batch`, or NDJSON of any length, one request a line.

    All or nothing: a bad line is a 422 with its number, and nothing runs."""
    if require_type(request, (JSON, NDJSON)) == JSON:
        batch = await read_batch(request, settings)
        options: JobOptions = batch.model_copy(
            update={
                name: value
                for name, value in {"deadline_s": deadline_s, "webhook_url": webhook_url}.items()
                if value is not None
            }
        )
        requests = to_async(batch.requests)
    else:
        options = JobOptions(deadline_s=deadline_s, webhook_url=webhook_url)
        requests = read_lines(request, settings)
    asked = submission(settings, owner, options=options, key=key)
    job = await services.batches.submit(requests, asked)
    return _accepted(job)


@router.get("/jobs", responses={**BAD_POSITION, **UNAVAILABLE})
async def list_jobs(
    jobs: JobsDep,
    owner: OwnerDep,
    state: Annotated[JobStatus | None, Query(alias="status")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 20,
    cursor: Annotated[str | None, Query(description="`next_cursor` of another page.")] = None,
) -> JobList:
    """One's own jobs, newest first. With a filter a page may be short, and yet have a next one."""
    before_us = None if cursor is None else _number(cursor, "cursor")
    found, before_us = await jobs.list_jobs(owner, state, before_us, limit)
    return JobList(jobs=found, next_cursor=None if before_us is None else str(before_us))


@router.get("/jobs/{job_id}", responses={**NOT_FOUND, **UNAVAILABLE})
async def get_job(job_id: str, jobs: JobsDep, owner: OwnerDep) -> Job:
    """The state of a job, with the answers so far if it has up to 100 requests; all of a batch's
    answer once it is done."""
    return await jobs.status(job_id, owner)


@router.delete("/jobs/{job_id}", responses={**NOT_FOUND, **UNAVAILABLE})
async def cancel_job(job_id: str, jobs: JobsDep, owner: OwnerDep) -> Job:
    """Cancels: what waits ends as `cancelled`, running calls are stopped, finished answers stay."""
    return await jobs.cancel(job_id, owner)


@router.post(
    "/jobs/{job_id}/retry",
    status_code=status.HTTP_202_ACCEPTED,
    responses={**ACCEPTED, **NOT_FOUND, **CONFLICT, **UNAVAILABLE},
)
async def retry_job(job_id: str, services: ServicesDep, owner: OwnerDep) -> Response:
    """Makes a new job of the items that failed, in their order; the old one stays as it ended.
    Asked for twice, it is the same new job."""
    asked = submission(services.settings, owner)
    return _accepted(await services.jobs.status(await services.jobs.retry(job_id, asked), owner))


@router.get(
    "/jobs/{job_id}/results",
    response_class=Response,
    responses={
        200: {"content": {NDJSON: STREAMED[200]["content"][NDJSON]}},
        **BAD_POSITION,
        **NOT_FOUND,
        **UNAVAILABLE,
    },
)
async def get_results(
    job_id: str,
    services: ServicesDep,
    owner: OwnerDep,
    order: Annotated[Order, Query()] = Order.INDEX,
    outcome: Annotated[Literal["successful", "failed"] | None, Query(alias="status")] = None,
    after: Annotated[str, Query(description="`cursor` of the last line that was read.")] = "0",
    limit: Annotated[int | None, Query(ge=1, description="Lines at most.")] = None,
    *,
    follow: Annotated[
        bool, Query(description="Until all have ended; else only what there is without waiting.")
    ] = True,
    content: Annotated[bool, Query(description="The answers too; else they are empty.")] = True,
) -> Stream:
    """The results as NDJSON, one item a line; in the order of the requests, or as they ended."""
    reader = await _reader(services, job_id, owner, order, _number(after, "after"))
    pages = services.following.pages(reader) if follow else services.following.ended(reader)

    def keep(item: JobItem) -> bool:
        return outcome is None or (outcome == "failed") == (item.error is not None)

    items = filter_items(pages, keep, limit=limit, content=content)
    return Stream(encode_pages(items, FORMATS[NDJSON]), NDJSON)


@router.get(
    "/jobs/{job_id}/events",
    response_class=Response,
    responses={
        200: {"content": {EVENT_STREAM: STREAMED[200]["content"][EVENT_STREAM]}},
        204: {"description": "Everything was read: an EventSource stops asking."},
        **BAD_POSITION,
        **NOT_FOUND,
        **UNAVAILABLE,
    },
)
async def get_events(
    job_id: str,
    services: ServicesDep,
    owner: OwnerDep,
    last_event_id: Annotated[str, Header(description="The stream goes on after it.")] = "0",
) -> Response:
    """Server-sent events: an `item` as each ends, at last `done` with the job's state."""
    position = _number(last_event_id, "Last-Event-ID")
    job = await services.jobs.summary(job_id, owner)
    if job.finished_at and position == job.total_requests + 1:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    reader = await _reader(services, job_id, owner, Order.COMPLETION, position)
    pages = services.following.pages(reader)
    summary = partial(services.jobs.summary, job_id, owner)
    return Stream(encode_pages(pages, FORMATS[EVENT_STREAM], summary=summary), EVENT_STREAM)


async def _reader(
    services: ServicesDep, job_id: str, owner: str, order: Order, position: int
) -> JobReader:
    """Raises JobNotFound, HTTPException 400: what cannot be said once the answer has begun."""
    if position > (await services.jobs.summary(job_id, owner)).total_requests:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "the job has no such position")
    return JobReader(services.store, job_id, owner, order=order, position=position)


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"{name} should be one that was given out")
    return int(text)


def _accepted(job: Job) -> Response:
    return as_json(job, status.HTTP_202_ACCEPTED, {"Location": f"/jobs/{job.job_id}"})
