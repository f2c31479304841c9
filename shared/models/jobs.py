"""Defines the models of a job's status, and of the response to a batch."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from shared.models.response_base import Outbound
from shared.models.responses import LLMResponse


class BatchLLMResponse(Outbound):
    """Holds the results of a job that has ended."""

    job_id: str
    responses: list[LLMResponse] = Field(description="The results, in the order of the requests.")
    total_requests: int
    successful: int
    failed: int
    total_latency_ms: float = Field(
        description="The time from the acceptance of the job to its last result."
    )
    average_latency_ms: float = Field(description="The mean `latency_ms` of the results.")


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
    """Says whether a job's webhook was delivered."""

    url: str
    status: WebhookState
    attempts: int = Field(description="The number of attempts to deliver the webhook.")
    error: str | None = Field(
        description="Why the service stopped trying to deliver the webhook; `null` if it did not."
    )


NATIVE = "native"  # name of the format of native requests


class JobSummary(Outbound):
    """Holds the status and the progress of a job, without its results."""

    job_id: str
    owner: str = Field(
        description="The name of the API key that submitted the job; empty if the server has no"
        " `API_KEYS`."
    )
    status: JobStatus
    total_requests: int
    providers: dict[str, int] = Field(description="The number of requests for each provider.")
    queued: int = Field(description="The number of requests that wait to run, or to run again.")
    retrying: int = Field(description="The number of `queued` requests that wait for a retry.")
    running: int = Field(description="The number of requests that workers run now.")
    successful: int = Field(description="The number of requests that have an answer.")
    failed: int = Field(
        description="The number of requests that have an error of any code, even `cancelled`."
    )
    cancelled: int = Field(
        description="The number of `failed` requests that had no result when the job was cancelled."
    )
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    retry_of: str | None = Field(
        description="The id of the job whose failed requests this job runs again; `null` if this"
        " job is not a retry."
    )
    retried_as: str | None = Field(
        description="The id of the job that runs the failed requests of this job again; `null` if"
        " there is no such job."
    )
    webhook: WebhookStatus | None
    total_latency_ms: float | None = Field(
        description="The time from the acceptance of the job to its last result; `null` until the"
        " job has ended."
    )
    average_latency_ms: float | None = Field(
        description="The mean `latency_ms` of the results; `null` until the job has ended."
    )
    format: str = Field(
        default=NATIVE,
        exclude_if=lambda value: value == NATIVE,
        description="The name of the vendor's format in which the requests were submitted, such as"
        " `openai-batch`; absent if they were in the native format.",
    )


class Job(JobSummary):
    """Holds the status of a job with the results so far.

    A job has every field of `BatchLLMResponse`. A field whose value is not known yet is `null`.
    """

    responses: list[LLMResponse | None] | None = Field(
        description="The results in the order of the requests; the result of an unfinished request"
        " is `null`. For a job of more than 100 requests, the whole list is `null`: use"
        " `/jobs/{job_id}/results`."
    )


class JobList(Outbound):
    """Lists a page of jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(
        description="The value of `cursor` that returns the next page; `null` on the last page."
    )
