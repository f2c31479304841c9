"""Describes the state of a deployment or of a lane in a few words."""

from datetime import datetime

from orchestrator_client import Deployment, Lane
from shared.monitoring.account_state import PROBING, account_of, not_covered

SHOWN = 5  # limit of the deployments that are shown for a lane


def state_of(deployment: Deployment, at: datetime) -> str:
    """Returns, for example, "paused until 12:30:05 UTC: answered 429 (too many requests)"."""
    next_call = deployment.next_call_at
    if deployment.state != PROBING:
        return f"paused until {next_call:%H:%M:%S} UTC: {deployment.because}"
    if deployment.is_probing:
        then = "a call is running"
    else:
        then = f"next call at {next_call:%H:%M:%S} UTC" if next_call > at else "next call now"
    return f"not working since {deployment.since:%H:%M:%S} UTC, {then}: {deployment.because}"


def lane_state(lane: Lane, at: datetime) -> str:
    """Returns the state of a lane as a whole, for example "healthy".

    The states of single models do not change the state of the lane.
    """
    if account := account_of(lane):
        return state_of(account, at)
    if lane.paused_until and not lane.deployments:  # an alias
        return f"paused until {lane.paused_until:%H:%M:%S} UTC: {lane.paused_because}"
    return "healthy"


def short_state(lane: Lane) -> str:
    """Returns, for example, "paused" or "2 models not working", with markup for a colour.

    Returns "" if the lane and all its models are healthy.
    """
    account = account_of(lane)
    failing = sum(one.state == PROBING for one in lane.deployments)
    if account and account.state == PROBING:
        return "[red]not working[/]"
    if lane.paused_until:
        return "[yellow]paused[/]"
    if failing:
        return f"[red]{_count(lane, failing)} not working[/]"
    return f"[yellow]{_count(lane, len(lane.deployments))} paused[/]" if lane.deployments else ""


def _count(lane: Lane, count: int) -> str:
    noun = "model" if any("/" in one.name for one in lane.deployments) else "key"
    return f"{count} {noun}{'' if count == 1 else 's'}"


def first_of(lane: Lane) -> tuple[list[Deployment], str]:
    """Returns the first SHOWN deployments that are not healthy, and a text about the others.

    Deployments that do not work come before paused deployments. The text is, for example,
    "and 3 more", or "" if there are no others. Models that the state of the whole provider covers
    are left out, and not counted.
    """
    account = account_of(lane)
    found = not_covered(lane)
    ordered = sorted(found, key=lambda one: (one.state != PROBING, one is not account))
    hidden = len(ordered) - SHOWN
    return ordered[:SHOWN], f"and {hidden} more" if hidden > 0 else ""
