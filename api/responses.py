"""The JSON responses that carry a job or a finished batch."""

from fastapi import Response, status

from api.headers import Wait
from api.media_types import JSON
from shared.jobs.views import finished_batch
from shared.models import BatchLLMResponse, Job


def job_accepted(job: Job, headers: dict[str, str] | None = None) -> Response:
    """Returns 202 with the URL of the job."""
    return _json(job, status.HTTP_202_ACCEPTED, job, headers)


def batch_response(job: Job, wait: Wait) -> Response:
    """Returns 200 with the results for a client that has waited for them, else 202."""
    finished = finished_batch(job) if wait.seconds else None
    if finished is None:
        return job_accepted(job, wait.response_headers)
    return _json(finished, status.HTTP_200_OK, job, wait.response_headers)


def _json(
    model: BatchLLMResponse | Job, status_code: int, job: Job, headers: dict[str, str] | None
) -> Response:
    """Encodes the model here, because FastAPI would validate it once more."""
    location = {"Location": f"/jobs/{job.job_id}"}
    return Response(
        model.model_dump_json(), status_code, location | (headers or {}), media_type=JSON
    )
