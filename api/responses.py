"""Builds the JSON responses that contain a job or the results of a batch."""

from fastapi import Response, status

from api.headers import Wait
from api.media_types import JSON
from shared.jobs.views import finished_batch
from shared.models import BatchLLMResponse, Job


def job_accepted(job: Job, headers: dict[str, str] | None = None) -> Response:
    """Returns a 202 with the job and its URL."""
    return _json(job, status.HTTP_202_ACCEPTED, job, headers)


def batch_response(job: Job, wait: Wait) -> Response:
    """Returns a 200 with the results if the client waited and the job has ended, or a 202."""
    finished = finished_batch(job) if wait.seconds else None
    if finished is None:
        return job_accepted(job, wait.response_headers)
    return _json(finished, status.HTTP_200_OK, job, wait.response_headers)


def job_response(job: Job) -> Response:
    return Response(job.to_json(), media_type=JSON)


def _json(
    model: BatchLLMResponse | Job, status_code: int, job: Job, headers: dict[str, str] | None
) -> Response:
    """Returns the response with the encoded model, which FastAPI would validate a second time."""
    location = {"Location": f"/jobs/{job.job_id}"}
    return Response(model.to_json(), status_code, location | (headers or {}), media_type=JSON)
