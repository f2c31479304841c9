"""Reads the state of a lane from the reply of overview.lua."""

from collections.abc import Collection, Sequence
from typing import Any

from shared.monitoring.limits import limit_in_force
from shared.monitoring.models import (
    DeploymentState,
    Lane,
    LaneStats,
    ModelStats,
    UnhealthyDeployment,
    WorkerState,
    WorkerView,
)
from shared.providers import WEBHOOK_LANE
from shared.providers.provider_row import account
from shared.redis.clock import utc


def lane_order(lanes: Collection[str], workers: Sequence[WorkerView]) -> list[str]:
    """Returns the lanes in the order of the workers' settings, then the lanes that no worker
    serves."""
    served = (lane for worker in workers for lane in worker.limits if lane in lanes)
    unserved = sorted(lanes, key=lambda lane: (lane == WEBHOOK_LANE, lane))
    return list(dict.fromkeys((*served, *unserved)))


def lane_of(
    name: str,
    fields: Sequence[Any],
    now_s: float,
    workers: Sequence[WorkerView],
    *,
    last_minute: LaneStats,
    recent_mean_ms: float | None,
    models: list[ModelStats],
) -> Lane:
    """Returns the lane. `fields` is what overview.lua returns for the lane."""
    in_flight, queued, deferred, oldest_ms, scopes, set_limits, cap = fields
    deployments = sorted((_deployment(name, *scope) for scope in scopes), key=lambda d: d.name)
    paused = _paused(name, deployments, in_flight, now_s)
    return Lane(
        name=name,
        in_flight=in_flight,
        limit=limit_in_force(_limit(name, workers), set_limits, cap, now_s),
        queued=queued,
        deferred=deferred,
        oldest_waiting_s=round(now_s - float(oldest_ms) / 1000, 3) if oldest_ms else None,
        paused_until=paused.next_call_at if paused else None,
        paused_because=paused.because if paused else None,
        deployments=deployments,
        last_minute=last_minute,
        recent_mean_ms=recent_mean_ms,
        models=models,
    )


def _deployment(
    lane: str,
    scope: bytes,
    until_ms: bytes,
    since_ms: bytes,
    is_open: int,
    verdict: bytes,
    reason: bytes,
    is_probing: int,
    key: int,
) -> UnhealthyDeployment:
    """Returns a deployment that is not healthy. The arguments after `lane` are what overview.lua
    returns for the deployment."""
    route, of_key = scope.decode(), account(lane, key)
    return UnhealthyDeployment(
        name=f"{of_key}/{route}" if route else of_key,
        state=DeploymentState.PROBING if is_open else DeploymentState.PAUSED,
        since=utc(float(since_ms) / 1000),
        next_call_at=utc(float(until_ms) / 1000),
        is_probing=bool(is_probing),
        verdict=verdict.decode(),
        because=reason.decode(),
    )


def _paused(
    lane: str, deployments: Sequence[UnhealthyDeployment], in_flight: int, now_s: float
) -> UnhealthyDeployment | None:
    """Returns the deployment because of which the lane is paused; None if the lane is not paused.

    The lane is paused if the whole provider is paused, or if a model or a key is paused and no call
    of the lane is running.
    """
    paused = [deployment for deployment in deployments if deployment.next_call_at > utc(now_s)]
    whole = [deployment for deployment in paused if deployment.name == lane]
    if whole or (paused and not in_flight):
        return min(whole or paused, key=lambda deployment: deployment.next_call_at)
    return None


def _limit(lane: str, workers: Sequence[WorkerView]) -> int | None:
    """Returns the highest limit that a worker has reported; None if no worker serves the lane.

    Ignores the limits of lost workers, unless all workers are lost.
    """
    present = [worker for worker in workers if worker.state is not WorkerState.LOST]
    limits = (worker.limits[lane] for worker in present or workers if lane in worker.limits)
    return max(limits, default=None)
