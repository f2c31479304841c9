"""What the routes are given."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from api.batches import Batches
from shared.jobs import Jobs
from shared.queue import Queue
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    queue: Queue
    jobs: Jobs
    batches: Batches


def _services(request: Request) -> Services:
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(_services)]


def _settings(services: ServicesDep) -> Settings:
    return services.settings


def _jobs(services: ServicesDep) -> Jobs:
    return services.jobs


def _batches(services: ServicesDep) -> Batches:
    return services.batches


def _queue(services: ServicesDep) -> Queue:
    return services.queue


SettingsDep = Annotated[Settings, Depends(_settings)]
JobsDep = Annotated[Jobs, Depends(_jobs)]
BatchesDep = Annotated[Batches, Depends(_batches)]
QueueDep = Annotated[Queue, Depends(_queue)]
