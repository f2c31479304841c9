"""Serves the health checks."""

from fastapi import APIRouter, Response, status

from api.dependencies.services import IdentifiedDep, ServicesDep
from api.monitoring.health import DetailedReadiness, Health, Readiness, check_readiness
from api.openapi.security_scheme import AUTHENTICATED
from api.openapi.tags import HEALTH

router = APIRouter(tags=[HEALTH])


@router.get("/health", summary="Check this process")
async def health() -> Health:
    """Return 200 as long as this process responds. Redis and the workers are not checked."""
    return Health()


@router.get(
    "/health/ready",
    summary="Check the installation",
    dependencies=[AUTHENTICATED],
    responses={
        503: {
            "model": DetailedReadiness | Readiness,
            "description": "Redis is unavailable, or no worker is alive.",
        },
    },
)
async def ready(
    services: ServicesDep, identified: IdentifiedDep, response: Response
) -> DetailedReadiness | Readiness:
    """Return 200 if this installation can run jobs: Redis is available and a worker is alive.

    No key is required. If `API_KEYS` is set, a request without a valid key gets only `status`."""
    readiness = await check_readiness(services.queue)
    if readiness.status != "ready":
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return readiness if identified else readiness.public()
