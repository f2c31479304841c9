"""Defines the models of `/overview`, `/overview/events` and `/history`.

All times come from the clock of the Redis server.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from shared.models import JobSummary

MAX_DEPLOYMENTS = 50  # limit of the deployments per lane that are not healthy


class LaneStats(BaseModel):
    """Sums up the calls that ended in a period."""

    calls: int
    calls_per_s: float = Field(
        description="The mean of the last 10 to 20 s; in the history, the mean of the step."
    )
    errors: dict[str, int] = Field(
        description="The number of calls without an answer, by error code."
    )
    errors_per_s: float = Field(description="The rate of `errors`, over the time of `calls_per_s`.")
    prompt_tokens: int
    completion_tokens: int
    mean_ms: float | None = Field(
        description="The mean duration of a call; `null` if no call ended."
    )
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class ModelStats(BaseModel):
    model: str
    calls: int
    errors: dict[str, int]


class DeploymentState(StrEnum):
    PAUSED = "paused"
    PROBING = "probing"


class UnhealthyDeployment(BaseModel):
    """Describes an unhealthy deployment. It serves one model, or all models of a provider."""

    name: str = Field(
        description="`provider/model`, or the name of the provider, for all of its models. With"
        " several keys `provider#2/model` and `provider#2`; if some of the keys work, the first key"
        " is `provider#1`."
    )
    state: DeploymentState = Field(
        description="`paused`: no call before `next_call_at`, then any number of calls. `probing`:"
        " the provider does not work; from `next_call_at` on it gets one call at a time, until it"
        " answers."
    )
    since: datetime = Field(
        description="The time at which the deployment stopped working, or at which its pause began."
    )
    next_call_at: datetime = Field(
        description="The time of the next call to the deployment, if a request waits then."
    )
    is_probing: bool = Field(
        description="Whether a probe runs now: a call that tests whether the deployment works."
    )
    verdict: str = Field(
        description="The kind of fault: `rate_limited`, `overloaded`, `quota_exhausted`,"
        " `unauthorized`, `unreachable` or `transient` (server errors and time-outs)."
    )
    because: str = Field(
        description="What the provider did, for example `answered 429 (too many requests)`."
    )


class Lane(BaseModel):
    """Describes a lane: the queue of a provider, of an alias or of the webhooks.

    All counts are for all workers and all owners together.
    """

    name: str
    in_flight: int
    limit: int | None = Field(
        description="The limit in force of the calls that run at once, on all workers; `null` until"
        " a worker has reported it."
    )
    queued: int = Field(
        description="The number of requests that wait for a free slot or the end of a pause."
    )
    deferred: int = Field(description="The number of requests that wait for a retry.")
    oldest_waiting_s: float | None = Field(
        description="The time since the oldest queued request was accepted; `null` if no request is"
        " queued."
    )
    paused_until: datetime | None
    paused_because: str | None = Field(
        description="What the provider did, for example `answered 429 (too many requests)`."
    )
    deployments: list[UnhealthyDeployment] = Field(
        description="The deployments that are not healthy, at most 50, by name."
    )
    last_minute: LaneStats
    recent_mean_ms: float | None = Field(
        description="The mean duration of the calls that ended in the last 10 to 20 s; `null` if no"
        " call ended."
    )
    models: list[ModelStats] = Field(
        description="The models of the last minute, at most 20, the busiest first. If there are"
        " more models, those without an answer are left out first."
    )


class WorkerState(StrEnum):
    ALIVE = "alive"
    SILENT = "silent"
    LOST = "lost"


class WorkerView(BaseModel):
    """Describes a worker: what it last reported, and whether it still reports."""

    worker_id: str
    state: WorkerState = Field(
        description="A worker is `silent` if it has not reported for some seconds, and `lost` if"
        " its leases have expired, too."
    )
    started_at: datetime
    seen_at: datetime = Field(description="The time of the worker's last report.")
    running: dict[str, int] = Field(description="The number of running calls, by lane.")
    limits: dict[str, int] = Field(
        description="The limit of calls that run at once, on all workers, by lane, for the lanes of"
        " the overview."
    )


class Severity(StrEnum):
    """Says how severe a notice is. The most severe value comes first."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Notice(BaseModel):
    """Explains in words why something is slow or fails."""

    severity: Severity
    lane: str | None = Field(
        description="The lane that the notice is about; `null` if the notice is not about one lane."
    )
    model: str | None = Field(
        default=None,
        description="The model that the notice is about; `null` if the notice is not about exactly"
        " one model.",
    )
    text: str


class Overview(BaseModel):
    """Holds the lanes, the workers and the notices."""

    at: datetime = Field(
        description="The time of this overview. All times in it come from the clock of the Redis"
        " server."
    )
    lanes: list[Lane] = Field(
        description="The webhook lane, and the lanes that a worker is configured for, that have"
        " requests, or that had calls in the last hour."
    )
    workers: list[WorkerView]
    notices: list[Notice] = Field(description="The notices, the most severe first.")


class LanePoint(LaneStats):
    """Describes a lane in one step of the history."""

    in_flight: int | None = Field(
        description="The number of running calls, counted once in the step; `null` if the lane had"
        " no requests."
    )
    queued: int | None = Field(
        description="The number of queued requests, counted once in the step; `null` if the lane"
        " had no requests."
    )


class HistoryPoint(BaseModel):
    at: datetime = Field(description="The start of the step.")
    lanes: dict[str, LanePoint]


class History(BaseModel):
    """Holds the statistics of the last hour."""

    step_s: int
    points: list[HistoryPoint] = Field(
        description="The steps, the oldest first. Steps in which nothing happened are left out."
    )


class OverviewEvent(BaseModel):
    """Holds one event of `GET /overview/events`."""

    overview: Overview
    jobs: list[JobSummary] = Field(description="Your newest jobs, at most 20.")
