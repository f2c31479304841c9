"""The state of a job, and the response to a batch that has completed."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from shared.models.response_base import Outbound
from shared.models.responses import LLMResponse


class BatchLLMResponse(Outbound):
    """The results of a job that has completed."""

    job_id: str
    responses: list[LLMResponse] = Field(description="In the order of the requests.")
    total_requests: int
    successful: int
    failed: int
    total_latency_ms: float = Field(description="The time from acceptance to the last result.")
    average_latency_ms: float = Field(description="The mean of the results' `latency_ms`.")


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"


class WebhookState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class WebhookStatus(Outbound):
    """The delivery of a job's webhook."""

    url: str
    status: WebhookState
    attempts: int = Field(description="The number of deliveries that were tried.")
    error: str | None = Field(description="Why the delivery was given up.")


class JobSummary(Outbound):
    """The state of a job, without its results."""

    job_id: str
    owner: str = Field(
        description="The name of the API key that submitted the job; empty if no keys are set."
    )
    status: JobStatus
    total_requests: int
    providers: dict[str, int] = Field(description="The number of requests for each provider.")
    queued: int = Field(description="Requests that wait to run, or to run again.")
    running: int = Field(description="Requests that a worker runs now.")
    successful: int = Field(description="Requests that have an answer.")
    failed: int = Field(
        description="Requests that have an error of any code, `cancelled` included."
    )
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    retry_of: str | None = Field(
        description="The job whose failed requests this job runs again, if it is a retry."
    )
    retried_as: str | None = Field(
        description="The job that runs this job's failed requests again, if it was retried."
    )
    webhook: WebhookStatus | None
    total_latency_ms: float | None = Field(
        description="The time from acceptance to the last result; `null` until the job has"
        " completed."
    )
    average_latency_ms: float | None = Field(
        description="The mean of the results' `latency_ms`; `null` until the job has completed."
    )


class Job(JobSummary):
    """The state of a job with the results so far.

    It has every field of `BatchLLMResponse`, with `null` for what is not known yet.
    """

    responses: list[LLMResponse | None] | None = Field(
        description="In the order of the requests, with `null` for those that have not finished."
        " `null` for a job of more than 100 requests: use `/jobs/{job_id}/results`."
    )


class JobList(Outbound):
    """A page of jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` to get the next page; `null` on the last page."
    )
