"""Derives the states of the lanes that have several deployments.

These are the lanes of aliases, and the lanes of providers with several keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.monitoring.models import Lane, UnhealthyDeployment


def with_pools(
    at: datetime, lanes: Sequence[Lane], rules: Iterable[Mapping[str, Mapping[str, Any]]]
) -> list[Lane]:
    """Returns the lanes. A lane with several deployments gets its state from its deployments.

    rules: what each worker reports in addition to its limits, by lane. `keys` is the number of a
        provider's keys; `deployments` has the names of the deployments of an alias.
    """
    served = {lane: found for of_worker in rules for lane, found in of_worker.items()}
    lanes = [_with_keys(lane, served.get(lane.name, {}).get("keys", 1)) for lane in lanes]
    states = {one.name: one for lane in lanes for one in lane.deployments}
    return [
        _alias(at, lane, served[lane.name]["deployments"], states)
        if "deployments" in served.get(lane.name, {})
        else lane
        for lane in lanes
    ]


def _with_keys(lane: Lane, keys: int) -> Lane:
    """Returns the lane of a provider.

    If the provider has several keys and at least one of them is healthy, the lane is not paused,
    and the names of the first key's deployments get the number of the key.
    """
    accounts = [one for one in lane.deployments if "/" not in one.name]
    if keys == 1 or len(accounts) >= keys or not lane.deployments:
        return lane
    deployments = [_with_number(lane, one) for one in lane.deployments]
    return lane.model_copy(
        update={"deployments": deployments, "paused_until": None, "paused_because": None}
    )


def _with_number(lane: Lane, one: UnhealthyDeployment) -> UnhealthyDeployment:
    """Returns the deployment with the number of its key in its name, such as `openai#1/gpt-5`.

    Only the first key's deployments come without the number: `openai/gpt-5`.
    """
    if one.name.startswith(f"{lane.name}#"):
        return one
    return one.model_copy(update={"name": f"{lane.name}#1{one.name.removeprefix(lane.name)}"})


def _alias(
    at: datetime, lane: Lane, deployments: Sequence[str], states: Mapping[str, UnhealthyDeployment]
) -> Lane:
    """Returns the lane of an alias. The lane is paused if no deployment may get calls now."""
    blocking = [_blocking(at, name, states) for name in deployments]
    paused = [one for one in blocking if one is not None]
    if len(paused) < len(blocking):
        return lane
    first = min(paused, key=lambda one: one.next_call_at)
    because = f"{first.name} {first.because}"
    return lane.model_copy(update={"paused_until": first.next_call_at, "paused_because": because})


def _blocking(
    at: datetime, name: str, states: Mapping[str, UnhealthyDeployment]
) -> UnhealthyDeployment | None:
    """Returns the state because of which a deployment gets no calls now; None if it may get calls.

    The state is the deployment's or its provider's: if both prevent calls, the one that ends later.
    """
    found = (states.get(name.partition("/")[0]), states.get(name))
    return max(
        (one for one in found if one and one.next_call_at > at),
        key=lambda one: one.next_call_at,
        default=None,
    )
