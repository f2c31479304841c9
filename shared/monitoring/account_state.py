"""Decides which deployments of a lane the state of the whole provider covers.

The server and the commands have models of their own for lanes, with the same fields.
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
    """Returns the state that covers all models of the lane; None if the provider is healthy."""
    return next((one for one in lane.deployments if one.name == lane.name), None)


def not_covered(lane: _Lane[Deployment]) -> list[Deployment]:
    """Returns the deployments that the state of the whole provider does not cover.

    If the provider does not work, returns only the provider. If it is paused, also returns each
    model that does not work or that is paused for longer.
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
