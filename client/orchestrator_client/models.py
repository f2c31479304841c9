"""Defines the responses of the API as pydantic models.

The models ignore unknown fields, and accept any string where a later API may add a value. So this
client also works with later versions of the API. `/docs` of a running API describes each field.
"""

import json
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

JobStatus = Literal["queued", "running", "completed", "cancelled", "deadline_exceeded"]
Outcome = Literal["successful", "failed"]
Order = Literal["index", "completion"]
RequestFormat = Literal[
    "native", "openai-batch", "openai", "anthropic-batch", "anthropic", "gemini-batch", "gemini"
]
ResultFormat = Literal["native", "openai", "anthropic", "gemini"]


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], text: bytes) -> Model:
    """Returns the JSON in `text` as a model. Raises ValidationError.

    A provider's body may contain the escape of half a surrogate pair. Such JSON is valid, but only
    Python's parser accepts it, not pydantic's.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        return model.model_validate(value)


class _Response(BaseModel):
    # An invalid response may contain an answer, which must not appear in an error.
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class LLMResponse(_Response):
    """Holds the result of one request: an answer, or an error."""

    request_id: str | None = None
    provider: str
    model: str
    content: str = Field(
        description="The text of the answer; empty if the answer has no text, or if there is an"
        " error."
    )
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    latency_ms: float = Field(
        description="The duration of the provider call that gave this result."
    )
    timestamp: datetime = Field(description="The time at which the request finished, in UTC.")
    error: str | None = Field(
        default=None,
        description="A description of the error for a human reader; None if there is an answer.",
    )
    error_code: str | None = Field(
        default=None, description="The kind of the error, for example `rate_limited`."
    )
    attempts: int = Field(
        description="The number of calls to the provider. 0 if the job ended before the request had"
        " finished, even if calls had been made."
    )
    finish_reason: str | None = None
    cost_usd: float | None = Field(
        default=None,
        description="The cost that the provider reports; None if it does not report a cost.",
    )
    queued_ms: float = Field(
        description="The time from the acceptance of the job to the start of the provider call that"
        " gave this result. If no call gave the result: the time until the request failed, or 0."
    )
    retried_ms: float = Field(
        description="The part of `queued_ms` after the start of the first provider call."
    )
    message: dict[str, Any] | None = Field(
        default=None,
        description="The provider's message, if it has more than a text, for example `tool_calls`,"
        " `refusal` or `reasoning`.",
    )
    choices: list[Any] | None = Field(
        default=None, description="All choices of the answer, if there are several."
    )
    logprobs: Any = Field(default=None, description="The log probabilities of the answer's tokens.")
    usage: dict[str, Any] | None = Field(
        default=None,
        description="The usage as the provider reports it, if it has more than the numbers of"
        " tokens and the cost.",
    )
    body: Any = Field(
        default=None,
        description="The body of the provider's response, if the request was in a vendor's format.",
    )
    metadata: dict[str, Any] | None = Field(
        default=None,
        description="The `metadata` that you sent with a request in a vendor's format.",
    )
    route: list[dict[str, Any]] | None = Field(
        default=None,
        description="The models that were tried before the request moved on to this model, each"
        " with `model`, `error_code` and `attempts`. None if no other model was tried.",
    )


class JobItem(LLMResponse):
    """Holds one result of a job. `model_dump()` returns a flat row of a table."""

    index: int = Field(description="The position of the request in the job, from 0.")
    cursor: int = Field(description="The position of the result in the stream, from 1.")


class BatchLLMResponse(_Response):
    """Holds the results of a batch."""

    job_id: str
    responses: list[LLMResponse] = Field(description="The results, in the order of the requests.")
    total_requests: int
    successful: int
    failed: int
    total_latency_ms: float = Field(description="The time from acceptance to the last result.")
    average_latency_ms: float = Field(description="The mean of the results' `latency_ms`.")


class WebhookStatus(_Response):
    """Says whether a job's webhook was delivered."""

    url: str
    status: str = Field(description="`waiting`, `delivered` or `given_up`.")
    attempts: int = Field(description="The number of attempts to deliver the webhook.")
    error: str | None = Field(
        default=None,
        description="The reason why the service gave up the delivery; None if it did not.",
    )


class JobSummary(_Response):
    """Holds a job's status and its progress."""

    job_id: str
    owner: str = Field(
        description="The name of the API key that submitted the job; empty without API keys."
    )
    status: JobStatus | str
    total_requests: int
    providers: dict[str, int] = Field(description="The number of requests for each provider.")
    queued: int = Field(description="The number of requests that wait to run, or to run again.")
    retrying: int = Field(
        default=0, description="The number of `queued` requests that wait for a retry."
    )
    running: int = Field(description="The number of requests that a worker runs now.")
    successful: int = Field(description="The number of requests that have an answer.")
    failed: int = Field(
        description="The number of requests that have an error of any code, even `cancelled`."
    )
    cancelled: int = Field(
        default=0, description="The number of failed requests whose error is `cancelled`."
    )
    accepted_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = Field(
        default=None, description="The time at which the job ended; None until then."
    )
    deadline_at: datetime | None = None
    retry_of: str | None = Field(
        default=None,
        description="The id of the job whose failed requests this job runs again; None if this job"
        " is not a retry.",
    )
    retried_as: str | None = Field(
        default=None,
        description="The id of the job that runs this job's failed requests again; None if there is"
        " no such job.",
    )
    webhook: WebhookStatus | None = None
    total_latency_ms: float | None = None
    average_latency_ms: float | None = None
    format: str = Field(
        default="native",
        description="The format in which the requests were submitted, for example `openai-batch`.",
    )


class Job(JobSummary):
    """Holds a job with its results so far."""

    responses: list[LLMResponse | None] | None = Field(
        default=None,
        description="The results in the order of the requests; an unfinished request has None in"
        " its place. If the job has more than 100 requests, there is no list, but None: use"
        " `client.results`.",
    )


JobOrId = JobSummary | BatchLLMResponse | str
"""A job that a method has returned, or the id of a job."""


class JobList(_Response):
    """Holds a page of jobs, the newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(
        default=None, description="The cursor of the next page; None on the last page."
    )


class LaneStats(_Response):
    """Counts the provider calls that ended in a period."""

    calls: int
    calls_per_s: float
    errors: dict[str, int] = Field(description="The number of failed calls by error code.")
    errors_per_s: float = 0
    prompt_tokens: int
    completion_tokens: int
    mean_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class ModelStats(_Response):
    """Counts the provider calls of one model that ended in the last minute."""

    model: str
    calls: int
    errors: dict[str, int]


class Deployment(_Response):
    """Describes a provider, or one of its models, that is paused or does not work."""

    name: str = Field(
        description="`provider/model`, or the name of the provider, for all of its models. With"
        " several keys `provider#2/model` and `provider#2`."
    )
    state: str = Field(
        description="`paused`: no call before `next_call_at`. `probing`: the deployment does not"
        " work; from `next_call_at` on it gets one call at a time, until it answers."
    )
    since: datetime
    next_call_at: datetime
    is_probing: bool = Field(
        description="Whether a probe runs now: a call that tests whether the deployment works."
    )
    verdict: str = Field(description="The kind of fault, for example `unreachable`.")
    because: str = Field(description="What the provider did, for example `answered 429`.")


class Lane(_Response):
    """Describes the queue of one provider, over all workers and all owners."""

    name: str
    in_flight: int = Field(description="The number of calls that run now, on all workers.")
    limit: int | None = Field(
        default=None,
        description="The limit of calls that run at once; None until a worker has reported it.",
    )
    queued: int = Field(
        description="The number of requests that run when a slot is free and the lane is not"
        " paused."
    )
    deferred: int = Field(description="The number of requests that wait for a retry.")
    oldest_waiting_s: float | None = None
    paused_until: datetime | None = None
    paused_because: str | None = None
    deployments: list[Deployment] = Field(
        default=[], description="The deployments that are not healthy, at most 50, by name."
    )
    last_minute: LaneStats
    recent_mean_ms: float | None = Field(
        default=None,
        description="The mean duration of the calls that ended in the last 10 to 20 s; None if no"
        " call ended.",
    )
    models: list[ModelStats] = Field(
        description="The busiest models of the last minute, at most 20, the busiest first."
    )


class WorkerView(_Response):
    """Describes a worker, as of its last report."""

    worker_id: str
    state: str = Field(description="`alive`, `silent` or `lost`.")
    started_at: datetime
    seen_at: datetime = Field(description="The time of the worker's last report.")
    running: dict[str, int] = Field(
        description="The number of the worker's calls by lane, at `seen_at`."
    )
    limits: dict[str, int] = Field(
        description="The limit of calls that run at once, on all workers, by lane."
    )


class Notice(_Response):
    """Explains in words why something is slow or fails."""

    severity: str = Field(description="`error`, `warning` or `info`.")
    lane: str | None = Field(
        default=None,
        description="The lane that the notice is about; None if the notice is not about one lane.",
    )
    model: str | None = Field(
        default=None,
        description="The model that the notice is about; None if the notice is not about exactly"
        " one model.",
    )
    text: str


class Overview(_Response):
    """Holds the lanes, the workers and the notices."""

    at: datetime = Field(
        description="The time of the overview. All times in the overview come from the clock of the"
        " Redis server."
    )
    lanes: list[Lane]
    workers: list[WorkerView]
    notices: list[Notice] = Field(description="The notices, the most severe first.")
