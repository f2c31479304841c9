"""Whether this deployment can run jobs now."""

from shared.models import Readiness
from shared.queue.claims import Queue
from shared.redis.client import RedisUnavailable
from shared.version import VERSION


async def check_readiness(queue: Queue) -> Readiness:
    """Ready means that Redis is available and that at least one worker is alive."""
    try:
        workers = len(await queue.workers())
    except RedisUnavailable:
        return Readiness(status="not_ready", redis="unreachable", workers=None, version=VERSION)
    return Readiness(
        status="ready" if workers else "not_ready", redis="ok", workers=workers, version=VERSION
    )
