"""What the routes are given. Asynchronous functions, for FastAPI runs others in threads."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from api.batches import Batches
from api.metrics import Metrics
from api.overview_feed import OverviewFeed
from api.result_stream import ResultStream
from shared.jobs.service import Jobs
from shared.jobs.store import Store
from shared.queue.claims import Queue
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    queue: Queue
    store: Store
    jobs: Jobs
    batches: Batches
    following: ResultStream
    live: OverviewFeed
    metrics: Metrics


async def _services(request: Request) -> Services:
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(_services)]


async def _settings(services: ServicesDep) -> Settings:
    return services.settings


async def _jobs(services: ServicesDep) -> Jobs:
    return services.jobs


async def _queue(services: ServicesDep) -> Queue:
    return services.queue


SettingsDep = Annotated[Settings, Depends(_settings)]
JobsDep = Annotated[Jobs, Depends(_jobs)]
QueueDep = Annotated[Queue, Depends(_queue)]
