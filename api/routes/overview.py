"""The endpoints to look at a deployment, for people and for Prometheus."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Depends, Request, Response

from api.dependencies import ServicesDep
from api.errors import UNAUTHORIZED, UNAVAILABLE
from api.middleware.authentication import BEARER, OwnerDep
from api.streaming import EVENT_STREAM, Stream, event
from shared.monitoring.models import History, Live, Overview

router = APIRouter(dependencies=[Depends(BEARER)])


@router.get("/overview", responses={**UNAVAILABLE})
async def get_overview(services: ServicesDep) -> Overview:
    """Lanes, workers, and in words what is wrong; of all owners together."""
    return await services.live.overview()


@router.get(
    "/overview/events",
    response_class=Response,
    responses={200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}, **UNAVAILABLE},
)
async def get_overview_events(services: ServicesDep, owner: OwnerDep) -> Stream:
    """Server-sent events: each second a `live` with the overview and one's own newest jobs;
    `trouble` while Redis cannot say."""
    return Stream(_encoded(services.live.events(owner)), EVENT_STREAM)


@router.get("/history", responses={**UNAVAILABLE})
async def get_history(services: ServicesDep) -> History:
    """The last hour in steps, by lane."""
    return await services.live.history()


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **UNAUTHORIZED},
)
async def get_metrics(request: Request, services: ServicesDep) -> Response:
    """For Prometheus: this API process, and the lanes as Redis has them."""
    body, media_type = await services.metrics.exposition(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": media_type})


async def _encoded(events: AsyncIterator[Live | None]) -> AsyncIterator[bytes]:
    async for live in events:
        if live is None:
            yield event("trouble", None, '{"detail":"Redis cannot be used just now"}')
        else:
            yield event("live", None, live.model_dump_json())
