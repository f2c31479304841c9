"""Serves `POST /batch`."""

from fastapi import APIRouter, Request, Response

from api.dependencies.request_headers import IdempotencyKey, StreamFormatDep, WaitPreference
from api.dependencies.services import DisconnectDep, OwnerDep, ServicesDep
from api.jobs.webhook_check import check_webhook
from api.openapi.request_bodies import JSON_BODY, request_body
from api.openapi.responses import ACCEPTED, EVENTS, NDJSON_ITEMS, SUBMISSION_REFUSED
from api.openapi.security_scheme import AUTHENTICATED
from api.openapi.tags import BATCHES
from api.requests.reader import RequestReader
from api.streams.job_updates import PUBLISH_PROGRESS_S
from shared.jobs.submission import Submission
from shared.models import BatchLLMResponse

router = APIRouter(tags=[BATCHES], dependencies=[AUTHENTICATED])


@router.post(
    "/batch",
    summary="Run a batch",
    response_description="The results of all requests.",
    response_model=BatchLLMResponse,
    responses={200: {"content": {**NDJSON_ITEMS, **EVENTS}}, **ACCEPTED, **SUBMISSION_REFUSED},
    openapi_extra=request_body(JSON_BODY),
)
async def post_batch(
    request: Request,
    services: ServicesDep,
    owner: OwnerDep,
    key: IdempotencyKey,
    wait: WaitPreference,
    accepted_format: StreamFormatDep,
    wait_for_disconnect: DisconnectDep,
) -> Response:
    """Run 1 to 100 requests and return their results in the order of the requests.

    A stream has the results in the order in which the requests finish. If a request fails, the
    response is still a 200, and the result of that request has an `error`."""
    reader = RequestReader(request, services.settings, services.catalogue)
    items, options = await reader.batch()
    stream_format = accepted_format if wait.seconds else None
    check_webhook(options.webhook_url, services.settings)
    submission = Submission(
        owner=owner,
        interactive=wait.seconds > 0,
        deadline_s=options.deadline_s,
        webhook_url=options.webhook_url,
        idempotency_key=key,
        body_digest=request.state.body_digest,
        follow_s=PUBLISH_PROGRESS_S if stream_format else None,
    )
    if wait.seconds and not stream_format:
        job = await services.job_starter.run(
            items, submission, wait_s=wait.seconds, wait_for_disconnect=wait_for_disconnect
        )
    else:
        job = await services.job_starter.start(
            items, submission, wait_for_disconnect=wait_for_disconnect
        )
    if stream_format:
        return services.job_streams.batch(
            job.job_id,
            submission,
            stream_format,
            wait_s=wait.seconds,
            headers=wait.response_headers,
        )
    respond = services.job_responses.batch if wait.seconds else services.job_responses.accepted
    return respond(job, wait.response_headers)
