"""Explains in sentences why something is slow or fails.

The overview contains the notices, so the dashboard, the CLI and the API show the same text.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from shared.monitoring.deployment_notices import deployment_notices
from shared.monitoring.models import Lane, Notice, Severity, WorkerState, WorkerView
from shared.monitoring.notice_texts import are, count, duration

LOST_SHOWN_S = 600  # time since a lost worker was last seen, after which its notice ends
MIN_CALLS = 5  # with fewer calls in the last minute, a model gets no notice
FAILING_SHARE = 0.5  # a model gets a notice if this share of its calls failed
NAMED_WORKERS = 3  # limit of the workers that a notice names
LONG_WAIT_S = 10  # wait of the oldest queued request, after which a lane gets a notice

_BY_SEVERITY = list(Severity)


def notices(
    at: datetime,
    lanes: Sequence[Lane],
    workers: Sequence[WorkerView],
    rules: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> list[Notice]:
    """Returns the notices for the time `at`, the most severe first.

    rules: what each worker reports in addition to its limits, by the worker's id and by lane.
    """
    found = [
        *_no_worker(lanes, workers),
        *_silent_workers(at, workers),
        *_lost_workers(at, workers),
    ]
    for lane in lanes:
        found += _not_served(lane, workers)
        found += deployment_notices(at, lane)
        found += _failing_models(lane)
        found += _different_limits(lane, workers)
        found += _different_rules(lane, workers, rules)
        found += _queue(lane, workers)
    return sorted(found, key=lambda notice: _BY_SEVERITY.index(notice.severity))


def _no_worker(lanes: Sequence[Lane], workers: Sequence[WorkerView]) -> Iterator[Notice]:
    if _present(workers):
        return
    waiting = sum(lane.queued + lane.deferred for lane in lanes)
    consequence = are(waiting, "waiting") if waiting else "new requests will wait"
    yield _notice(
        Severity.ERROR,
        None,
        f"No worker is alive: {consequence}. Start a worker with: python -m worker",
    )


def _silent_workers(at: datetime, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    for worker in workers:
        if worker.state is not WorkerState.SILENT:
            continue
        running = sum(worker.running.values())
        consequence = (
            " If it does not return before its leases expire,"
            f" other workers will run the {'request' if running == 1 else 'requests'} again."
            if running
            else ""
        )
        yield _notice(
            Severity.WARNING,
            None,
            f"Worker {worker.worker_id} is silent: {_last_seen(at, worker)}.{consequence}",
        )


def _lost_workers(at: datetime, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    for worker in workers:
        if worker.state is not WorkerState.LOST or _unseen_s(at, worker) >= LOST_SHOWN_S:
            continue
        running = sum(worker.running.values())
        if not running:
            consequence = ""
        elif _present(workers):
            consequence = f" The {'request was' if running == 1 else 'requests were'} queued again."
        else:
            consequence = (
                f" The {'request waits' if running == 1 else 'requests wait'} for a worker."
            )
        yield _notice(
            Severity.WARNING,
            None,
            f"Worker {worker.worker_id} is lost: {_last_seen(at, worker)}.{consequence}",
        )


def _failing_models(lane: Lane) -> Iterator[Notice]:
    for model in lane.models:
        failed = sum(model.errors.values())
        if model.calls < MIN_CALLS or failed < FAILING_SHARE * model.calls:
            continue
        # The calls of the webhook lane have no model.
        calls = f"{model.calls:,} calls" + (f" to {model.model}" if model.model else "")
        codes = ", ".join(f"{number:,} {code}" for code, number in model.errors.items())
        yield _notice(
            Severity.ERROR if failed == model.calls else Severity.WARNING,
            lane.name,
            f"{lane.name}: {failed:,} of {calls} failed in the last minute: {codes}.",
            model=model.model or None,
        )


def _different_limits(lane: Lane, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    present = _present(workers)
    limits = {worker.limits[lane.name] for worker in present if lane.name in worker.limits}
    if len(limits) > 1:
        listed = ", ".join(str(limit) for limit in sorted(limits))
        yield _notice(
            Severity.WARNING,
            lane.name,
            f"{lane.name}: the workers have different limits ({listed}). Set the same limit for all"
            " workers: MAX_CONCURRENT_REQUESTS or <PROVIDER>_MAX_CONCURRENT_REQUESTS.",
        )


def _different_rules(
    lane: Lane, workers: Sequence[WorkerView], rules: Mapping[str, Mapping[str, Any]]
) -> Iterator[Notice]:
    by_rules: dict[str, list[str]] = {}
    for worker in _present(workers):
        if lane.name in worker.limits:
            of_lane = rules.get(worker.worker_id, {}).get(lane.name, {})
            by_rules.setdefault(repr(of_lane), []).append(worker.worker_id)
    if len(by_rules) > 1:
        fewest = min(by_rules.values(), key=len)
        names = ", ".join(fewest[:NAMED_WORKERS]) + ("…" if len(fewest) > NAMED_WORKERS else "")
        yield _notice(
            Severity.WARNING,
            lane.name,
            f"{lane.name}: the workers have different limits, numbers of keys or deployments;"
            f" {names} {'differs' if len(fewest) == 1 else 'differ'} from the others. Give all"
            " workers the same settings and PROVIDERS_FILE. `orchestrator limits` shows the"
            " limits.",
        )


def _not_served(lane: Lane, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    waiting = lane.queued + lane.deferred + lane.in_flight
    if waiting and _present(workers) and not _is_served(lane, workers):
        yield _notice(
            Severity.ERROR,
            lane.name,
            f"{lane.name}: {are(waiting, 'waiting')}, but no worker knows this provider. Give the"
            " workers the same PROVIDERS_FILE as the API and restart them, or cancel the jobs.",
        )


def _queue(lane: Lane, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    """Yields the notices that say why requests wait although nothing is broken."""
    if lane.paused_until or not _is_served(lane, workers):
        return
    if lane.queued and lane.limit is not None and lane.in_flight >= lane.limit:
        yield _notice(
            Severity.INFO,
            lane.name,
            f"{lane.name}: all {lane.limit:,} slots are in use;"
            f" {are(lane.queued, 'queued')}.{_time_to_empty(lane)}",
        )
    elif lane.queued and (lane.oldest_waiting_s or 0) > LONG_WAIT_S and not lane.deployments:
        yield _notice(
            Severity.WARNING,
            lane.name,
            f"{lane.name}: slots are free, but {are(lane.queued, 'queued')}, because every worker"
            " runs as many requests as WORKER_MAX_JOBS allows. Add workers or raise this limit.",
        )
    if lane.deferred:
        yield _notice(
            Severity.INFO,
            lane.name,
            f"{lane.name}: {are(lane.deferred, 'waiting for a retry')}.",
        )


def _time_to_empty(lane: Lane) -> str:
    """Returns a sentence that says when the queue will be empty.

    The time is an estimate from the mean duration of the calls that ended in the last 10 to 20 s.
    Returns "" if there were no such calls.
    """
    mean_ms = lane.recent_mean_ms
    if mean_ms is None or not lane.limit:
        return ""
    left = duration(lane.queued * mean_ms / 1000 / lane.limit)
    return f" At the present speed, the queue will be empty in about {left}."


def _present(workers: Sequence[WorkerView]) -> list[WorkerView]:
    return [worker for worker in workers if worker.state is not WorkerState.LOST]


def _is_served(lane: Lane, workers: Sequence[WorkerView]) -> bool:
    return any(lane.name in worker.limits for worker in _present(workers))


def _unseen_s(at: datetime, worker: WorkerView) -> float:
    return (at - worker.seen_at).total_seconds()


def _last_seen(at: datetime, worker: WorkerView) -> str:
    running = sum(worker.running.values())
    requests = count(running, "request") if running else "no request"
    return f"it was last seen {duration(_unseen_s(at, worker))} ago and was running {requests}"


def _notice(severity: Severity, lane: str | None, text: str, *, model: str | None = None) -> Notice:
    return Notice(severity=severity, lane=lane, model=model, text=text)
