"""Health checks."""

from fastapi import APIRouter, Response, status

from api.dependencies import ServicesDep
from api.health import Health, Readiness, check_readiness
from api.openapi import AUTHENTICATED, HEALTH, UNAUTHORIZED

router = APIRouter(tags=[HEALTH])


@router.get("/health")
async def health() -> Health:
    """Whether this process responds. It checks nothing else: no Redis, no workers."""
    return Health()


@router.get(
    "/health/ready",
    dependencies=[AUTHENTICATED],
    responses={
        **UNAUTHORIZED,
        503: {"model": Readiness, "description": "Redis is unreachable, or no worker is alive."},
    },
)
async def ready(services: ServicesDep, response: Response) -> Readiness:
    """Whether this deployment can run jobs: Redis is available and a worker is alive."""
    readiness = await check_readiness(services.queue)
    if readiness.status != "ready":
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return readiness
