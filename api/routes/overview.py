"""Serves the state of the installation, as JSON and for Prometheus."""

from fastapi import APIRouter, Request, Response

from api.dependencies.services import OwnerDep, ServicesDep
from api.media_types import EVENT_STREAM
from api.openapi.responses import EVENTS, UNAUTHORIZED, UNAVAILABLE
from api.openapi.security_scheme import AUTHENTICATED
from api.openapi.tags import MONITORING
from api.streams.stream_response import StreamResponse
from shared.monitoring.models import History, Overview

router = APIRouter(tags=[MONITORING], dependencies=[AUTHENTICATED])


@router.get("/overview", summary="Get the overview", responses={**UNAVAILABLE})
async def get_overview(services: ServicesDep) -> Overview:
    """Return the queues, the workers and the current problems, for all owners together."""
    return await services.overview_feed.overview()


@router.get(
    "/overview/events",
    summary="Follow the overview",
    response_class=Response,
    responses={200: {"content": EVENTS}, **UNAVAILABLE},
)
async def get_overview_events(services: ServicesDep, owner: OwnerDep) -> StreamResponse:
    """Stream one server-sent event per second: `live` with the overview and your newest jobs, or
    `trouble` while Redis is unavailable."""
    return StreamResponse(services.overview_feed.events(owner), EVENT_STREAM)


@router.get("/history", summary="Get the last hour", responses={**UNAVAILABLE})
async def get_history(services: ServicesDep) -> History:
    """Return the statistics of the last hour, by provider, in steps of some seconds."""
    return await services.overview_feed.history()


@router.get(
    "/metrics",
    summary="Get Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **UNAUTHORIZED},
)
async def get_metrics(request: Request, services: ServicesDep) -> Response:
    """Return the metrics of this API process, the queues and the workers as Prometheus text."""
    body, media_type = await services.metrics.exposition(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": media_type})
