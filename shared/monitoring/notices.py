"""Explains in sentences why something is slow or fails.

A pure function of the overview, so that the page, the CLI and the API say the same.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from shared.monitoring.models import Lane, Notice, Severity, WorkerState, WorkerView

LOST_SHOWN_S = 600  # how long a lost worker is worth a notice
MIN_CALLS = 5  # fewer calls in a minute say nothing about a model
FAILING_SHARE = 0.5
LONG_WAIT_S = 10

_BY_SEVERITY = list(Severity)


def notices(at: datetime, lanes: Sequence[Lane], workers: Sequence[WorkerView]) -> list[Notice]:
    """Returns what deserves attention at the time `at`, the most severe first."""
    found = [
        *_no_worker(lanes, workers),
        *_silent_workers(at, workers),
        *_lost_workers(at, workers),
    ]
    for lane in lanes:
        found += _pause(at, lane)
        found += _failing_models(lane)
        found += _different_limits(lane, workers)
        found += _queue(lane, workers)
    return sorted(found, key=lambda notice: _BY_SEVERITY.index(notice.severity))


def _no_worker(lanes: Sequence[Lane], workers: Sequence[WorkerView]) -> Iterator[Notice]:
    if _present(workers):
        return
    waiting = sum(lane.queued + lane.deferred for lane in lanes)
    what = _waiting(waiting) if waiting else "new requests will wait"
    yield _notice(
        Severity.ERROR, None, f"No worker is alive: {what}. Start one with: python -m worker"
    )


def _silent_workers(at: datetime, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    for worker in workers:
        if worker.state is not WorkerState.SILENT:
            continue
        calls = sum(worker.running.values())
        consequence = (
            f"If it has died, its {_count(calls, 'call')} will run again on other workers when"
            f" {'the lease expires' if calls == 1 else 'the leases expire'}."
            if calls
            else "It had no call in flight."
        )
        yield _notice(
            Severity.WARNING,
            None,
            f"Worker {worker.worker_id} is silent, last seen {_ago(at, worker)}. {consequence}",
        )


def _lost_workers(at: datetime, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    for worker in workers:
        if worker.state is not WorkerState.LOST or _unseen_s(at, worker) >= LOST_SHOWN_S:
            continue
        calls = sum(worker.running.values())
        requests = _count(calls, "request") if calls else "requests"
        plural = calls != 1
        consequence = (
            f"its {requests} {'have' if plural else 'has'} moved to other workers"
            if _present(workers)
            else f"its {requests} {'wait' if plural else 'waits'} for another worker"
        )
        yield _notice(
            Severity.WARNING,
            None,
            f"Lost worker {worker.worker_id}, last seen {_ago(at, worker)}; {consequence}.",
        )


def _pause(at: datetime, lane: Lane) -> Iterator[Notice]:
    if not lane.paused_until or lane.paused_until <= at:
        return
    left_s = (lane.paused_until - at).total_seconds()
    state = (
        f"is paused for another {_duration(left_s)}, until {lane.paused_until:%H:%M:%S} UTC"
        if round(left_s)
        else "is resuming after a pause"
    )
    reason = lane.paused_because or "asked to wait"
    waiting = _waiting(lane.queued + lane.deferred, "of all jobs")
    yield _notice(Severity.WARNING, lane.name, f"{lane.name} {state}: it {reason}. {waiting}.")


def _failing_models(lane: Lane) -> Iterator[Notice]:
    for model in lane.models:
        failed = sum(model.errors.values())
        if model.calls < MIN_CALLS or failed < FAILING_SHARE * model.calls:
            continue
        # The calls of the webhook lane have no model.
        calls = f"{model.calls:,} calls" + (f" to {model.model}" if model.model else "")
        codes = ", ".join(f"{code} {count:,}" for code, count in model.errors.items())
        yield _notice(
            Severity.ERROR if failed == model.calls else Severity.WARNING,
            lane.name,
            f"{lane.name}: {failed:,} of {calls} failed in the last minute: {codes}.",
        )


def _different_limits(lane: Lane, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    limits = {worker.limits.get(lane.name, 0) for worker in _present(workers)}
    if len(limits) > 1:
        listed = ", ".join(str(limit) for limit in sorted(limits))
        yield _notice(
            Severity.WARNING,
            lane.name,
            f"{lane.name}: the workers have different limits: {listed}."
            " Give all of them the same MAX_CONCURRENT_REQUESTS.",
        )


def _queue(lane: Lane, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    """Explains why requests wait although no fault keeps them from running."""
    if lane.paused_until or not _present(workers):
        return
    if lane.queued and lane.limit is not None and lane.in_flight >= lane.limit:
        yield _notice(
            Severity.INFO,
            lane.name,
            f"{lane.name}: all {lane.limit:,} slots are in use;"
            f" {_count(lane.queued, 'request')} queued{_time_to_clear(lane)}.",
        )
    elif lane.queued and (lane.oldest_waiting_s or 0) > LONG_WAIT_S:
        yield _notice(
            Severity.WARNING,
            lane.name,
            f"{lane.name}: {_count(lane.queued, 'request')} could run, but every worker is full."
            " Add workers or raise WORKER_MAX_JOBS.",
        )
    if lane.deferred:
        yield _notice(
            Severity.INFO,
            lane.name,
            f"{lane.name}: {_count(lane.deferred, 'request')} waiting for a retry.",
        )


def _time_to_clear(lane: Lane) -> str:
    """Estimates the time from the mean latency of the last minute; "" without any."""
    mean_ms = lane.last_minute.mean_ms
    if mean_ms is None or not lane.limit:
        return ""
    return f", about {_duration(lane.queued * mean_ms / 1000 / lane.limit)} to clear"


def _present(workers: Sequence[WorkerView]) -> list[WorkerView]:
    return [worker for worker in workers if worker.state is not WorkerState.LOST]


def _unseen_s(at: datetime, worker: WorkerView) -> float:
    return (at - worker.seen_at).total_seconds()


def _ago(at: datetime, worker: WorkerView) -> str:
    return f"{_duration(_unseen_s(at, worker))} ago"


def _notice(severity: Severity, lane: str | None, text: str) -> Notice:
    return Notice(severity=severity, lane=lane, text=text)


def _waiting(requests: int, where: str = "") -> str:
    subject = " ".join(part for part in (_count(requests, "request"), where) if part)
    return f"{subject} {'waits' if requests == 1 else 'wait'}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _duration(seconds: float) -> str:
    """Rounds to the largest unit of which there are at least 1.5, so that "2 min" is never 61 s."""
    units = (("s", 1), ("min", 60), ("h", 3600))
    unit, length = next(u for u in reversed(units) if seconds >= 1.5 * u[1] or u[1] == 1)
    return f"{seconds / length:.0f} {unit}"
