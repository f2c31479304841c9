"""Provides the objects that routes take as parameters.

The functions are coroutine functions, because FastAPI runs other functions in threads.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, cast

from fastapi import Depends, Request

from api.disconnect import wait_for_disconnect
from api.jobs.job_responses import JobResponses
from api.jobs.job_starter import JobStarter
from api.jobs.job_streams import JobStreams
from api.monitoring.metrics import Metrics
from api.monitoring.overview_feed import OverviewFeed
from api.openai.services import OpenAIServices
from shared.jobs.service import Jobs
from shared.providers import Catalogue
from shared.queue.claims import Queue
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """Holds the objects that routes use. `api.lifespan` creates them once per process."""

    settings: Settings
    catalogue: Catalogue
    queue: Queue
    jobs: Jobs
    job_starter: JobStarter
    job_streams: JobStreams
    job_responses: JobResponses
    overview_feed: OverviewFeed
    metrics: Metrics
    openai: OpenAIServices


async def _services(request: Request) -> Services:
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(_services)]


async def _settings(services: ServicesDep) -> Settings:
    return services.settings


async def _jobs(services: ServicesDep) -> Jobs:
    return services.jobs


async def _owner(request: Request) -> str:
    """Returns the owner of the request's API key, or "" if `API_KEYS` is not set."""
    owner: str = request.scope.get("owner", "")
    return owner


async def _identified(request: Request, services: ServicesDep) -> bool:
    """Returns True if the request has a valid API key, or if `API_KEYS` is not set."""
    return not services.settings.api_keys or "owner" in request.scope


async def _disconnect(request: Request) -> Callable[[], Awaitable[None]]:
    """Returns a coroutine function that waits until the client has disconnected."""
    return partial(wait_for_disconnect, request.receive)


SettingsDep = Annotated[Settings, Depends(_settings)]
JobsDep = Annotated[Jobs, Depends(_jobs)]
OwnerDep = Annotated[str, Depends(_owner)]
IdentifiedDep = Annotated[bool, Depends(_identified)]
DisconnectDep = Annotated[Callable[[], Awaitable[None]], Depends(_disconnect)]
