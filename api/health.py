"""The health of this process and the readiness of the deployment."""

from typing import Literal

from pydantic import BaseModel, Field

from shared.queue.claims import Queue
from shared.redis.client import RedisUnavailable
from shared.version import VERSION


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ready", "not_ready"]
    redis: Literal["ok", "unreachable"]
    workers: int | None = Field(
        description="The number of workers that are alive; `null` while Redis is unreachable."
    )
    version: str = Field(description="The version of this API process.")


async def check_readiness(queue: Queue) -> Readiness:
    """Ready means that Redis is available and that at least one worker is alive."""
    try:
        workers = len(await queue.workers())
    except RedisUnavailable:
        return Readiness(status="not_ready", redis="unreachable", workers=None, version=VERSION)
    status: Literal["ready", "not_ready"] = "ready" if workers else "not_ready"
    return Readiness(status=status, redis="ok", workers=workers, version=VERSION)
