"""Finds the deployments of a lane whose state follows from the state of the whole provider.

The functions take the lanes of the server and the lanes of the commands: two classes with the same
fields.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypeVar

PROBING = "probing"


class _Deployment(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def next_call_at(self) -> datetime: ...


Deployment = TypeVar("Deployment", bound=_Deployment)
Shown_co = TypeVar("Shown_co", bound=_Deployment, covariant=True)


class _Lane(Protocol[Shown_co]):
    @property
    def name(self) -> str: ...
    @property
    def deployments(self) -> Sequence[Shown_co]: ...


def account_of(lane: _Lane[Deployment]) -> Deployment | None:
    """Returns the deployment that stands for all models of the lane.

    Returns None if all deployments are healthy, or if only some models or keys are unhealthy.
    """
    return next((one for one in lane.deployments if one.name == lane.name), None)


def not_covered(lane: _Lane[Deployment]) -> list[Deployment]:
    """Returns the unhealthy deployments, without those that only repeat the provider's state.

    If the whole provider does not work, returns only the provider. If the whole provider is paused,
    returns the provider, and each model that does not work or whose pause ends later. Otherwise
    returns all unhealthy deployments.
    """
    account = account_of(lane)
    if account is None:
        return list(lane.deployments)
    if account.state == PROBING:
        return [account]
    return [
        one
        for one in lane.deployments
        if one is account or one.state == PROBING or one.next_call_at > account.next_call_at
    ]
