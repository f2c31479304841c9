"""Tests the sentences that explain why something is slow or fails."""

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
    last_minute=NOTHING,
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
LOST = WORKER.model_copy(update={"state": WorkerState.LOST, "seen_at": AT - timedelta(seconds=40)})
SILENT = WORKER.model_copy(
    update={"state": WorkerState.SILENT, "seen_at": AT - timedelta(seconds=9)}
)


def lane(base: Lane = IDLE, **fields: object) -> Lane:
    return base.model_copy(update=fields)


def model(calls: int, **errors: int) -> Lane:
    return lane(models=[ModelStats(model="m", calls=calls, errors=errors)])


def said(severity: Severity, text: str, *, of_lane: bool = True) -> Notice:
    return Notice(severity=severity, lane="openrouter" if of_lane else None, text=text)


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
                    "No worker is alive: 2 requests wait. Start one with: python -m worker",
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
                    "Lost worker host:1:abc, last seen 40 s ago;"
                    " its 3 requests have moved to other workers.",
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
                    "No worker is alive: new requests will wait. Start one with: python -m worker",
                    of_lane=False,
                ),
                said(
                    Severity.WARNING,
                    "Lost worker host:1:abc, last seen 40 s ago;"
                    " its 1 request waits for another worker.",
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
                    "Worker host:1:abc is silent, last seen 9 s ago. If it has died,"
                    " its 3 calls will run again on other workers when the leases expire.",
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
                    "Worker host:1:abc is silent, last seen 9 s ago. It had no call in flight.",
                    of_lane=False,
                ),
                said(Severity.INFO, "openrouter: all 10 slots are in use; 2,000 requests queued."),
            ],
        ),
        (
            lane(BUSY, paused_until=AT + timedelta(seconds=30), paused_because="answered 429"),
            [WORKER],
            [
                said(
                    Severity.WARNING,
                    "openrouter is paused for another 30 s, until 03:04:35 UTC: it answered 429."
                    " 2,000 requests of all jobs wait.",
                )
            ],
        ),
        (
            lane(queued=1, paused_until=AT + timedelta(seconds=0.4), paused_because="answered 429"),
            [WORKER],
            [
                said(
                    Severity.WARNING,
                    "openrouter is resuming after a pause: it answered 429."
                    " 1 request of all jobs waits.",
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
                    " provider_error 4, timeout 1.",
                )
            ],
        ),
        (
            model(10, provider_error=10),
            [WORKER],
            [
                said(
                    Severity.ERROR,
                    "openrouter: 10 of 10 calls to m failed in the last minute: provider_error 10.",
                )
            ],
        ),
        (
            lane(BUSY, last_minute=NOTHING.model_copy(update={"mean_ms": 1000})),
            [WORKER],
            [
                said(
                    Severity.INFO,
                    "openrouter: all 10 slots are in use; 2,000 requests queued,"
                    " about 3 min to clear.",
                )
            ],
        ),
        (
            BUSY,
            [WORKER],
            [said(Severity.INFO, "openrouter: all 10 slots are in use; 2,000 requests queued.")],
        ),
        (
            lane(BUSY, in_flight=4, queued=1),
            [WORKER],
            [
                said(
                    Severity.WARNING,
                    "openrouter: 1 request could run, but every worker is full."
                    " Add workers or raise WORKER_MAX_JOBS.",
                )
            ],
        ),
        (
            lane(deferred=1),
            [WORKER],
            [said(Severity.INFO, "openrouter: 1 request waiting for a retry.")],
        ),
        (
            IDLE,
            [WORKER, WORKER.model_copy(update={"limits": {"openrouter": 4}})],
            [
                said(
                    Severity.WARNING,
                    "openrouter: the workers have different limits: 4, 10."
                    " Give all of them the same MAX_CONCURRENT_REQUESTS.",
                )
            ],
        ),
    ],
)
def test_what_is_said(seen: Lane, workers: list[WorkerView], expected: list[Notice]) -> None:
    assert notices(AT, [seen], workers) == expected


def test_the_worst_comes_first() -> None:
    lanes = [BUSY, model(10, provider_error=10), model(10, timeout=6)]

    found = [notice.severity for notice in notices(AT, lanes, [WORKER])]

    assert found == [Severity.ERROR, Severity.WARNING, Severity.INFO]
