"""Tests the notices: sentences that explain why something is slow or fails."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.monitoring.models import (
    Lane,
    LaneStats,
    ModelStats,
    Notice,
    Severity,
    WorkerState,
    WorkerView,
)
from shared.monitoring.notices import notices

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


def lane(base: Lane = IDLE, **fields: object) -> Lane:
    return base.model_copy(update=fields)


def model(calls: int, **errors: int) -> Lane:
    return lane(models=[ModelStats(model="m", calls=calls, errors=errors)])


def said(
    severity: Severity, text: str, *, of_lane: bool = True, of_model: str | None = None
) -> Notice:
    lane = "openrouter" if of_lane else None
    return Notice(severity=severity, lane=lane, model=of_model, text=text)


@pytest.mark.parametrize(
    ("seen", "workers", "expected"),
    [
        (IDLE, [WORKER], []),
        (lane(in_flight=9, queued=0), [WORKER], []),
        (
            lane(queued=2),
            [],
            [
                said(
                    Severity.ERROR,
                    "No worker is alive: 2 requests are waiting."
                    " Start a worker with: python -m worker",
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
                    "No worker is alive: new requests will wait."
                    " Start a worker with: python -m worker",
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
                    "Worker host:1:abc is silent: it was last seen 9 s ago"
                    " and was running no request.",
                    of_lane=False,
                ),
                said(
                    Severity.INFO,
                    "openrouter: all 10 slots are in use; 2,000 requests are queued.",
                ),
            ],
        ),
        (
            lane(BUSY, paused_until=AT + timedelta(seconds=30), paused_because="answered 429"),
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
            lane(queued=1, paused_until=AT + timedelta(seconds=0.4), paused_because="answered 429"),
            [WORKER],
            [
                said(
                    Severity.WARNING,
                    "openrouter is resuming now. It was paused because the provider answered 429."
                    " 1 request is waiting, counted over all jobs.",
                )
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
    ],
)
def test_each_notice(seen: Lane, workers: list[WorkerView], expected: list[Notice]) -> None:
    assert notices(AT, [seen], workers) == expected


def test_the_most_severe_notice_comes_first() -> None:
    lanes = [BUSY, model(10, provider_error=10), model(10, timeout=6)]

    found = [notice.severity for notice in notices(AT, lanes, [WORKER])]

    assert found == [Severity.ERROR, Severity.WARNING, Severity.INFO]
