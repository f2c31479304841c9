"""Lists lanes and workers of an overview, with the notices that explain them."""

from datetime import timedelta

from shared.monitoring.models import (
    DeploymentState,
    Lane,
    ModelStats,
    Notice,
    Severity,
    UnhealthyDeployment,
    WorkerState,
    WorkerView,
)
from support.overview import AT, IDLE, NOTHING, lane, unhealthy

BUSY = IDLE.model_copy(update={"in_flight": 10, "queued": 2000, "oldest_waiting_s": 60.0})
WORKER = WorkerView(
    worker_id="host:1:abc",
    state=WorkerState.ALIVE,
    started_at=AT - timedelta(hours=1),
    seen_at=AT - timedelta(seconds=1),
    running={"openrouter": 3},
    limits={"openrouter": 10},
)
NOT_SERVING = WORKER.model_copy(update={"limits": {"ollama": 10}})
LOST = WORKER.model_copy(update={"state": WorkerState.LOST, "seen_at": AT - timedelta(seconds=40)})
SILENT = WORKER.model_copy(
    update={"state": WorkerState.SILENT, "seen_at": AT - timedelta(seconds=9)}
)


def paused(name: str = "openrouter", *, next_s: float = 30) -> UnhealthyDeployment:
    return unhealthy(
        name,
        DeploymentState.PAUSED,
        next_s=next_s,
        verdict="rate_limited",
        because="answered 429",
    )


def model(calls: int, **errors: int) -> Lane:
    return lane(models=[ModelStats(model="m", calls=calls, errors=errors)])


def said(
    severity: Severity, text: str, *, of_lane: bool = True, of_model: str | None = None
) -> Notice:
    lane = "openrouter" if of_lane else None
    return Notice(severity=severity, lane=lane, model=of_model, text=text)


# A lane, the workers, and the notices about both.
NOTICE_CASES: list[tuple[Lane, list[WorkerView], list[Notice]]] = [
    (IDLE, [WORKER], []),
    (lane(in_flight=9, queued=0), [WORKER], []),
    (
        lane(queued=2),
        [],
        [
            said(
                Severity.ERROR,
                "No worker is alive: 2 requests are waiting. Start a worker with: python -m worker",
                of_lane=False,
            )
        ],
    ),
    (
        IDLE,
        [WORKER, LOST],
        [
            said(
                Severity.WARNING,
                "Worker host:1:abc is lost: it was last seen 40 s ago"
                " and was running 3 requests."
                " The requests were queued again.",
                of_lane=False,
            )
        ],
    ),
    (IDLE, [WORKER, LOST.model_copy(update={"seen_at": AT - timedelta(hours=1)})], []),
    (
        IDLE,
        [LOST.model_copy(update={"running": {"ollama": 1}})],
        [
            said(
                Severity.ERROR,
                "No worker is alive: new requests will wait. Start a worker with: python -m worker",
                of_lane=False,
            ),
            said(
                Severity.WARNING,
                "Worker host:1:abc is lost: it was last seen 40 s ago"
                " and was running 1 request."
                " The request waits for a worker.",
                of_lane=False,
            ),
        ],
    ),
    (
        IDLE,
        [WORKER, SILENT],
        [
            said(
                Severity.WARNING,
                "Worker host:1:abc is silent: it was last seen 9 s ago"
                " and was running 3 requests."
                " If it does not return before its leases expire,"
                " other workers will run the requests again.",
                of_lane=False,
            )
        ],
    ),
    (
        BUSY,
        [SILENT.model_copy(update={"running": {}})],
        [
            said(
                Severity.WARNING,
                "Worker host:1:abc is silent: it was last seen 9 s ago and was running no request.",
                of_lane=False,
            ),
            said(
                Severity.INFO,
                "openrouter: all 10 slots are in use; 2,000 requests are queued.",
            ),
        ],
    ),
    (
        lane(BUSY, paused_until=AT + timedelta(seconds=30), deployments=[paused()]),
        [WORKER],
        [
            said(
                Severity.WARNING,
                "openrouter is paused for another 30 s, until 03:04:35 UTC,"
                " because the provider answered 429."
                " 2,000 requests are waiting, counted over all jobs.",
            )
        ],
    ),
    (
        lane(
            queued=1,
            paused_until=AT + timedelta(seconds=0.4),
            deployments=[paused(next_s=0.4)],
        ),
        [WORKER],
        [
            said(
                Severity.WARNING,
                "openrouter is resuming now. It was paused because the provider answered 429."
                " 1 request is waiting, counted over all jobs.",
            )
        ],
    ),
    (
        # Another model of the lane works, so the lane is not paused.
        lane(in_flight=1, queued=5, deployments=[paused("openrouter/m")], oldest_waiting_s=60),
        [WORKER],
        [
            said(
                Severity.WARNING,
                "openrouter/m is paused for another 30 s, until 03:04:35 UTC, because the"
                " provider answered 429. 5 requests for openrouter are waiting, counted over"
                " all jobs.",
                of_model="m",
            )
        ],
    ),
    (lane(deployments=[paused(next_s=-1)]), [WORKER], []),
    (
        lane(queued=2, deployments=[unhealthy()]),
        [WORKER],
        [
            said(
                Severity.ERROR,
                "openrouter has not worked for 2 min, since 03:02:05 UTC, because the provider"
                " could not be reached. The next call is made in 30 s, at 03:04:35 UTC."
                " 2 requests are waiting, counted over all jobs. Check OPENROUTER_BASE_URL, and"
                " whether the workers can reach the provider."
                " To try now: orchestrator lanes resume openrouter",
            )
        ],
    ),
    (
        # The state of the lane covers its models.
        lane(
            in_flight=1,
            queued=2,
            oldest_waiting_s=60.0,
            deployments=[
                unhealthy(
                    verdict="unauthorized",
                    because="answered 401 (the key was refused)",
                    next_s=-1,
                    is_probing=True,
                ),
                unhealthy("openrouter/m"),
                paused("openrouter/n"),
            ],
        ),
        [WORKER],
        [
            said(
                Severity.ERROR,
                "openrouter has not worked for 2 min, since 03:02:05 UTC, because the provider"
                " answered 401 (the key was refused). A call that finds out whether the"
                " provider works again is running. 2 requests are waiting, counted over all"
                " jobs."
                " Check OPENROUTER_API_KEY, and restart the workers."
                " To try now: orchestrator lanes resume openrouter",
            )
        ],
    ),
    (
        lane(
            queued=1,
            deployments=[unhealthy("openrouter/m", verdict="quota_exhausted", next_s=3 * 86_400)],
        ),
        [WORKER],
        [
            said(
                Severity.ERROR,
                "openrouter/m has not worked for 2 min, since 03:02:05 UTC, because the"
                " provider could not be reached. The next call is made in 72 h, at"
                " 2026-01-05 03:04:05 UTC. 1 request for openrouter is waiting, counted over"
                " all jobs. Check the credit and the limits of the account at openrouter."
                " To try now: orchestrator lanes resume openrouter/m",
                of_model="m",
            )
        ],
    ),
    (
        lane(deployments=[unhealthy(verdict="transient", because="did not answer in time")]),
        [WORKER],
        [
            said(
                Severity.ERROR,
                "openrouter has not worked for 2 min, since 03:02:05 UTC, because the provider"
                " did not answer in time. The next request finds out whether the provider"
                " works again."
                " Check the provider's status page, or the log of your own server."
                " To try now: orchestrator lanes resume openrouter",
            )
        ],
    ),
    (
        # Many models of one provider have one notice for each state.
        lane(
            queued=1,
            deployments=[
                *(unhealthy(f"openrouter/a/{n}", next_s=-1) for n in range(4)),
                *(paused(f"openrouter/b{n}", next_s=n + 1) for n in range(46)),
            ],
        ),
        [WORKER],
        [
            said(
                Severity.ERROR,
                "openrouter: at least 4 models (a/0, a/1, a/2 and 1 more) do not work."
                " The first has not worked for 2 min, since 03:02:05 UTC, because the provider"
                " could not be reached. 1 request for openrouter is waiting, counted over all"
                " jobs. Check OPENROUTER_BASE_URL, and whether the workers can reach the"
                " provider. To try now: orchestrator lanes resume openrouter",
            ),
            said(
                Severity.WARNING,
                "openrouter: at least 46 models (b0, b1, b2 and 43 more) are paused. The last"
                " pause ends in 46 s, at 03:04:51 UTC. The provider answered 429."
                " 1 request for openrouter is waiting, counted over all jobs.",
            ),
        ],
    ),
    (model(10), [WORKER], []),
    (model(4, provider_error=4), [WORKER], []),
    (model(10, provider_error=4), [WORKER], []),
    (
        model(10, provider_error=4, timeout=1),
        [WORKER],
        [
            said(
                Severity.WARNING,
                "openrouter: 5 of 10 calls to m failed in the last minute:"
                " 4 provider_error, 1 timeout.",
                of_model="m",
            )
        ],
    ),
    (
        model(10, provider_error=10),
        [WORKER],
        [
            said(
                Severity.ERROR,
                "openrouter: 10 of 10 calls to m failed in the last minute: 10 provider_error.",
                of_model="m",
            )
        ],
    ),
    (
        lane(
            BUSY,
            # The mean of the last minute may be of earlier, slower calls.
            last_minute=NOTHING.model_copy(update={"mean_ms": 9000}),
            recent_mean_ms=1000,
        ),
        [WORKER],
        [
            said(
                Severity.INFO,
                "openrouter: all 10 slots are in use; 2,000 requests are queued."
                " At the present speed, the queue will be empty in about 3 min.",
            )
        ],
    ),
    (
        BUSY,
        [WORKER],
        [
            said(
                Severity.INFO,
                "openrouter: all 10 slots are in use; 2,000 requests are queued.",
            )
        ],
    ),
    (
        lane(BUSY, in_flight=4, queued=1),
        [WORKER],
        [
            said(
                Severity.WARNING,
                "openrouter: slots are free, but 1 request is queued, because every worker"
                " runs as many requests as WORKER_MAX_JOBS allows."
                " Add workers or raise this limit.",
            )
        ],
    ),
    (
        lane(deferred=1),
        [WORKER],
        [said(Severity.INFO, "openrouter: 1 request is waiting for a retry.")],
    ),
    (
        IDLE,
        [WORKER, WORKER.model_copy(update={"limits": {"openrouter": 4}})],
        [
            said(
                Severity.WARNING,
                "openrouter: the workers have different limits (4, 10). Set the same limit"
                " for all workers: MAX_CONCURRENT_REQUESTS or"
                " <PROVIDER>_MAX_CONCURRENT_REQUESTS.",
            )
        ],
    ),
    (IDLE, [WORKER, NOT_SERVING], []),
    (IDLE, [NOT_SERVING], []),
    (
        lane(in_flight=1, queued=2, deferred=3, oldest_waiting_s=60.0),
        [NOT_SERVING, LOST],
        [
            said(
                Severity.ERROR,
                "openrouter: 6 requests are waiting, but no worker knows this provider. Give"
                " the workers the same PROVIDERS_FILE as the API and restart them, or cancel"
                " the jobs.",
            ),
            said(
                Severity.WARNING,
                "Worker host:1:abc is lost: it was last seen 40 s ago and was running 3"
                " requests. The requests were queued again.",
                of_lane=False,
            ),
        ],
    ),
]
