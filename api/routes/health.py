"""Serves the health checks."""

from fastapi import APIRouter, Response, status

from api.dependencies import ServicesDep
from api.health import Health, Readiness, check_readiness
from api.openapi import AUTHENTICATED, HEALTH, UNAUTHORIZED

router = APIRouter(tags=[HEALTH])


@router.get("/health", summary="Check this process")
async def health() -> Health:
    """Return 200 as long as this process responds. Redis and the workers are not checked."""
    return Health()


@router.get(
    "/health/ready",
    summary="Check the deployment",
    dependencies=[AUTHENTICATED],
    responses={
        **UNAUTHORIZED,
        503: {"model": Readiness, "description": "Redis is unavailable, or no worker is alive."},
    },
)
async def ready(services: ServicesDep, response: Response) -> Readiness:
    """Return 200 if this deployment can run jobs: Redis is available and a worker is alive."""
    readiness = await check_readiness(services.queue)
    if readiness.status != "ready":
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return readiness
