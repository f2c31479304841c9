"""Makes lanes of the overview, and deployments that are not healthy."""

from datetime import UTC, datetime, timedelta

from shared.monitoring.models import DeploymentState, Lane, LaneStats, UnhealthyDeployment

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOTHING = LaneStats(
    calls=0,
    calls_per_s=0,
    errors={},
    errors_per_s=0,
    prompt_tokens=0,
    completion_tokens=0,
    mean_ms=None,
    p50_ms=None,
    p95_ms=None,
    p99_ms=None,
)
IDLE = Lane(
    name="openrouter",
    in_flight=0,
    limit=10,
    queued=0,
    deferred=0,
    oldest_waiting_s=None,
    paused_until=None,
    paused_because=None,
    deployments=[],
    last_minute=NOTHING,
    recent_mean_ms=None,
    models=[],
)


def lane(base: Lane = IDLE, **fields: object) -> Lane:
    return base.model_copy(update=fields)


def unhealthy(
    name: str = "openrouter",
    state: DeploymentState = DeploymentState.PROBING,
    *,
    next_s: float = 30,
    verdict: str = "unreachable",
    because: str = "could not be reached",
    is_probing: bool = False,
) -> UnhealthyDeployment:
    return UnhealthyDeployment(
        name=name,
        state=state,
        since=AT - timedelta(minutes=2),
        next_call_at=AT + timedelta(seconds=next_s),
        is_probing=is_probing,
        verdict=verdict,
        because=because,
    )
