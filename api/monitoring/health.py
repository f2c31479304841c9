"""Checks whether the installation can run jobs, and defines the responses of the health checks."""

from typing import Literal

from pydantic import BaseModel, Field

from shared.queue.claims import Queue
from shared.redis.client import RedisUnavailable
from shared.version import VERSION


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """If `API_KEYS` is set, a request without a valid key gets only `status`."""

    status: Literal["ready", "not_ready"]


class DetailedReadiness(Readiness):
    redis: Literal["ok", "unreachable"] = Field(
        description="`unreachable` if Redis is unavailable for any reason."
    )
    workers: int | None = Field(
        description="The number of workers that are alive; `null` if Redis is unavailable."
    )
    version: str = Field(description="The version of this API process.")

    def public(self) -> Readiness:
        """Returns the part that every client may read."""
        return Readiness(status=self.status)


async def check_readiness(queue: Queue) -> DetailedReadiness:
    """Returns the status `ready` if Redis is available and at least one worker is not lost."""
    try:
        workers = len(await queue.workers())
    except RedisUnavailable:
        return DetailedReadiness(
            status="not_ready", redis="unreachable", workers=None, version=VERSION
        )
    status: Literal["ready", "not_ready"] = "ready" if workers else "not_ready"
    return DetailedReadiness(status=status, redis="ok", workers=workers, version=VERSION)
