"""Describes the responses of the API.

They ignore fields that they do not know, and take any string where the API may add a value, so that
this client works with later versions of the API. `/docs` of a running API describes each field.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

JobStatus = Literal["queued", "running", "completed", "cancelled", "deadline_exceeded"]
Outcome = Literal["successful", "failed"]
Order = Literal["index", "completion"]


class _Response(BaseModel):
    # An invalid response may contain an answer, which must not appear in an error.
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class LLMResponse(_Response):
    """The result of one request: an answer, or an error."""

    request_id: str | None = None
    provider: str
    model: str
    content: str = Field(description="The answer; empty if the request failed.")
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    latency_ms: float = Field(description="Duration of the provider call that gave this result.")
    timestamp: datetime
    error: str | None = Field(default=None, description="None if the request was answered.")
    error_code: str | None = Field(default=None, description="For example `rate_limited`.")
    attempts: int = Field(description="Calls made to the provider.")
    finish_reason: str | None = None
    cost_usd: float | None = Field(
        default=None, description="As the provider reports it; None if it does not."
    )
    queued_ms: float = Field(description="From acceptance to the start of that call.")
    retried_ms: float = Field(
        description="The part of `queued_ms` that followed the start of the first attempt."
    )


class JobItem(LLMResponse):
    """A result with its place in the job. `model_dump()` is flat: a row of a table."""

    index: int = Field(description="Position of the request in the job, from 0.")
    cursor: int = Field(description="Position of this result in the stream of results.")


class BatchLLMResponse(_Response):
    """The results of a batch."""

    job_id: str
    responses: list[LLMResponse] = Field(description="In the order of the requests.")
    total_requests: int
    successful: int
    failed: int
    total_latency_ms: float = Field(description="From acceptance to the last result.")
    average_latency_ms: float = Field(description="Mean of the results' `latency_ms`.")


class WebhookStatus(_Response):
    url: str
    status: str = Field(description="`waiting`, `delivered` or `given_up`.")
    attempts: int
    error: str | None = None


class JobSummary(_Response):
    """A job and its progress."""

    job_id: str
    owner: str = Field(description="Name of the API key that made it; empty without API keys.")
    status: JobStatus | str
    total_requests: int
    providers: dict[str, int] = Field(description="Number of requests by provider.")
    queued: int
    running: int
    successful: int
    failed: int = Field(description="With an error of any code, `cancelled` included.")
    accepted_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = Field(default=None, description="None until it completes.")
    deadline_at: datetime | None = None
    retry_of: str | None = Field(default=None, description="The job whose failed items it retries.")
    retried_as: str | None = Field(default=None, description="The job that retries its failures.")
    webhook: WebhookStatus | None = None
    total_latency_ms: float | None = None
    average_latency_ms: float | None = None


class Job(JobSummary):
    """A job with its results so far."""

    responses: list[LLMResponse | None] | None = Field(
        default=None,
        description="In the order of the requests, None for an unfinished item. None for a job of"
        " more than 100 requests: see `results`.",
    )


class JobList(_Response):
    """A page of jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(default=None, description="None on the last page.")


class LaneStats(_Response):
    """Provider calls that ended in an interval."""

    calls: int
    calls_per_s: float
    errors: dict[str, int] = Field(description="Number of failed calls by error code.")
    prompt_tokens: int
    completion_tokens: int
    mean_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class ModelStats(_Response):
    model: str
    calls: int
    errors: dict[str, int]


class Lane(_Response):
    """The queue of one provider, over all workers and all owners."""

    name: str
    in_flight: int
    limit: int | None = None
    queued: int = Field(description="Items that may run as soon as a slot is free.")
    deferred: int = Field(description="Items that wait for a retry.")
    oldest_waiting_s: float | None = None
    paused_until: datetime | None = None
    paused_because: str | None = None
    last_minute: LaneStats
    models: list[ModelStats] = Field(description="Models of the last minute, busiest first.")


class WorkerView(_Response):
    worker_id: str
    state: str = Field(description="`alive`, `silent` or `lost`.")
    started_at: datetime
    seen_at: datetime
    running: dict[str, int] = Field(description="Calls by lane, at `seen_at`.")
    limits: dict[str, int]


class Notice(_Response):
    """A reason why something is slow or fails, in words."""

    severity: str = Field(description="`error`, `warning` or `info`.")
    lane: str | None = Field(default=None, description="None if it concerns all lanes.")
    text: str


class Overview(_Response):
    """Lanes, workers and notices."""

    at: datetime = Field(description="By the clock of Redis, as all times here.")
    lanes: list[Lane]
    workers: list[WorkerView]
    notices: list[Notice] = Field(description="The most severe first.")
