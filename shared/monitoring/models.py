"""What operators see: the lanes, the workers, what is wrong, and the last hour."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from shared.models import JobSummary


class LaneStats(BaseModel):
    """Of the calls that ended in a time."""

    calls: int
    calls_per_s: float = Field(description="In the last 10 to 20 s; of the history, in the step.")
    errors: dict[str, int] = Field(description="Calls without an answer, by error code.")
    prompt_tokens: int
    completion_tokens: int
    mean_ms: float | None = Field(description="Latency of a call; `null`: there was none.")
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class ModelStats(BaseModel):
    model: str
    calls: int
    errors: dict[str, int]


class Lane(BaseModel):
    """The queue of one provider, over all workers and all owners."""

    name: str
    in_flight: int
    limit: int | None = Field(description="`null`: no worker has said so yet.")
    queued: int = Field(description="May run as soon as there is a slot.")
    deferred: int = Field(description="Wait for a retry.")
    oldest_waiting_s: float | None = Field(description="Since its job was accepted.")
    paused_until: datetime | None
    paused_because: str | None
    last_minute: LaneStats
    models: list[ModelStats] = Field(description="Of the last minute, the busiest first.")


class WorkerState(StrEnum):
    ALIVE = "alive"
    SILENT = "silent"
    LOST = "lost"


class WorkerView(BaseModel):
    worker_id: str
    state: WorkerState = Field(
        description="`silent`: not heard lately, its leases go on; `lost`: they have ended, too."
    )
    started_at: datetime
    seen_at: datetime = Field(description="Its last heartbeat.")
    running: dict[str, int] = Field(description="Calls by lane, as of then.")
    limits: dict[str, int]


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Notice(BaseModel):
    """Why something is slow or fails, in words."""

    severity: Severity
    lane: str | None = Field(description="`null`: it concerns all.")
    text: str


class Overview(BaseModel):
    at: datetime = Field(description="By Redis's clock, as all times here.")
    lanes: list[Lane]
    workers: list[WorkerView]
    notices: list[Notice] = Field(description="The worst first.")


class LanePoint(LaneStats):
    in_flight: int | None = Field(description="As last seen in this time.")
    queued: int | None


class HistoryPoint(BaseModel):
    at: datetime = Field(description="Its beginning.")
    lanes: dict[str, LanePoint]


class History(BaseModel):
    step_s: int
    points: list[HistoryPoint] = Field(description="The oldest first; nothing happened in others.")


class Live(BaseModel):
    """One event of `GET /overview/events`."""

    overview: Overview
    jobs: list[JobSummary] = Field(description="One's own newest.")
