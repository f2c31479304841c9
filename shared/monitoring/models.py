"""The models of `/overview`, `/overview/events` and `/history`. All times are Redis's clock."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from shared.models import JobSummary


class LaneStats(BaseModel):
    """Statistics of the calls that finished in a period."""

    calls: int
    calls_per_s: float = Field(
        description="Mean of the last 10 to 20 s; in the history, of the step."
    )
    errors: dict[str, int] = Field(description="Calls without an answer, by error code.")
    prompt_tokens: int
    completion_tokens: int
    mean_ms: float | None = Field(description="Latency of a call; `null` if no call finished.")
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class ModelStats(BaseModel):
    model: str
    calls: int
    errors: dict[str, int]


class Lane(BaseModel):
    """The queue of one provider, for all workers and all owners together."""

    name: str
    in_flight: int
    limit: int | None = Field(
        description="Calls that may be in flight at once; `null` until a worker has reported it."
    )
    queued: int = Field(description="Requests that run as soon as a slot is free.")
    deferred: int = Field(description="Requests that wait for a retry.")
    oldest_waiting_s: float | None = Field(
        description="Time since the oldest queued request was accepted; `null` if none is queued."
    )
    paused_until: datetime | None
    paused_because: str | None = Field(
        description="What the provider did, as the end of a sentence that starts with its name."
    )
    last_minute: LaneStats
    models: list[ModelStats] = Field(
        description="The busiest models of the last minute, at most 20, the busiest first."
    )


class WorkerState(StrEnum):
    ALIVE = "alive"
    SILENT = "silent"
    LOST = "lost"


class WorkerView(BaseModel):
    """A worker, as of its last report."""

    worker_id: str
    state: WorkerState = Field(
        description="`silent`: it has not reported lately, but its leases are valid. `lost`: its"
        " leases have expired, too."
    )
    started_at: datetime
    seen_at: datetime = Field(description="When it last reported.")
    running: dict[str, int] = Field(description="Calls by lane.")
    limits: dict[str, int] = Field(
        description="Calls that may be in flight in all workers together, by lane."
    )


class Severity(StrEnum):
    """Ordered from the most severe."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Notice(BaseModel):
    """A sentence that explains why something is slow or fails."""

    severity: Severity
    lane: str | None = Field(description="`null` if it concerns all lanes.")
    text: str


class Overview(BaseModel):
    """The lanes, the workers and what needs attention."""

    at: datetime = Field(description="When this was read, by Redis's clock, as all times here.")
    lanes: list[Lane]
    workers: list[WorkerView]
    notices: list[Notice] = Field(description="The most severe first.")


class LanePoint(LaneStats):
    """A lane in one step of the history."""

    in_flight: int | None = Field(description="Sampled once in the step.")
    queued: int | None = Field(description="Sampled once in the step.")


class HistoryPoint(BaseModel):
    at: datetime = Field(description="Start of the step.")
    lanes: dict[str, LanePoint]


class History(BaseModel):
    """The last hour."""

    step_s: int
    points: list[HistoryPoint] = Field(
        description="The oldest first; steps in which nothing happened are left out."
    )


class OverviewEvent(BaseModel):
    """One event of `GET /overview/events`."""

    overview: Overview
    jobs: list[JobSummary] = Field(description="Your newest jobs, at most 20.")
