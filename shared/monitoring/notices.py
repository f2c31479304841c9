"""Why something is slow or fails: a pure reading of what is seen."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from shared.monitoring.models import Lane, Notice, Severity, WorkerState, WorkerView

LOST_LATELY_S = 600
FEW_CALLS = 5  # of which nothing is concluded
MOSTLY = 0.5
LONG_WAIT_S = 10

_ORDER = list(Severity)


def notices(at: datetime, lanes: Sequence[Lane], workers: Sequence[WorkerView]) -> list[Notice]:
    """The worst first."""
    found = [*_of_workers(at, lanes, workers)]
    for lane in lanes:
        found += _of_lane(at, lane, workers)
    return sorted(found, key=lambda notice: _ORDER.index(notice.severity))


def _of_workers(
    at: datetime, lanes: Sequence[Lane], workers: Sequence[WorkerView]
) -> Iterator[Notice]:
    waiting = sum(lane.queued + lane.deferred for lane in lanes)
    if all(worker.state is WorkerState.LOST for worker in workers):
        work = f"{waiting:,} requests wait" if waiting else "no request waits"
        yield _notice(Severity.ERROR, None, f"No worker is alive: nothing runs; {work}.")
    for worker in workers:
        ago_s = (at - worker.seen_at).total_seconds()
        calls = sum(worker.running.values())
        if worker.state is WorkerState.SILENT:
            ran = (
                f"its {_of(calls, 'call')} keep {'its slot' if calls == 1 else 'their slots'} until"
                " the leases end, and run again then"
                if calls
                else "others do its work"
            )
            yield _notice(
                Severity.WARNING,
                None,
                f"Worker {worker.worker_id} is silent: last heard {_span(ago_s)} ago."
                f" If it has died, {ran}.",
            )
        if worker.state is WorkerState.LOST and ago_s < LOST_LATELY_S:
            ran = (
                f"it ran {_of(calls, 'call')} then, taken up"
                if calls
                else "what it ran is taken up"
            )
            yield _notice(
                Severity.WARNING,
                None,
                f"Worker {worker.worker_id} was lost: last heard {_span(ago_s)} ago;"
                f" {ran} again by others.",
            )


def _of_lane(at: datetime, lane: Lane, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    waiting = lane.queued + lane.deferred
    if lane.paused_until and lane.paused_until > at:
        yield _notice(
            Severity.WARNING,
            lane.name,
            f"{lane.name} is paused for another {_span((lane.paused_until - at).total_seconds())},"
            f" until {lane.paused_until:%H:%M:%S} UTC: it {lane.paused_because or 'asked for it'};"
            f" {_of(waiting, 'request')} of all jobs wait{'' if waiting != 1 else 's'} for it.",
        )
    for model in lane.models:
        failed = sum(model.errors.values())
        if model.calls >= FEW_CALLS and failed >= MOSTLY * model.calls:
            codes = ", ".join(f"{code} {count:,}" for code, count in model.errors.items())
            yield _notice(
                Severity.ERROR if failed == model.calls else Severity.WARNING,
                lane.name,
                f"{lane.name}: {failed:,} of {model.calls:,} calls of {model.model or 'the lane'}"
                f" in the last minute failed: {codes}.",
            )
    limits = {
        worker.limits.get(lane.name) for worker in workers if worker.state is not WorkerState.LOST
    }
    if len(limits) > 1:
        said = ", ".join(str(limit) for limit in sorted(limits, key=lambda limit: limit or 0))
        yield _notice(
            Severity.WARNING, lane.name, f"{lane.name}: the workers have different limits: {said}."
        )
    yield from _of_line(lane, workers)


def _of_line(lane: Lane, workers: Sequence[WorkerView]) -> Iterator[Notice]:
    """Why what may run waits, where it is nothing but that there is much of it."""
    if lane.paused_until or all(w.state is WorkerState.LOST for w in workers):
        return
    if lane.queued and lane.limit is not None and lane.in_flight >= lane.limit:
        mean_ms = lane.last_minute.mean_ms
        left = "" if mean_ms is None else _work_left(lane.queued, mean_ms, lane.limit)
        yield _notice(
            Severity.INFO,
            lane.name,
            f"{lane.name}: all {lane.limit:,} slots are in use,"
            f" {_of(lane.queued, 'request')} queued{left}.",
        )
    elif lane.queued and (lane.oldest_waiting_s or 0) > LONG_WAIT_S:
        yield _notice(
            Severity.WARNING,
            lane.name,
            f"{lane.name}: {_of(lane.queued, 'request')} could run and no worker has a place:"
            " add workers, or raise WORKER_MAX_JOBS.",
        )
    if lane.deferred:
        yield _notice(
            Severity.INFO,
            lane.name,
            f"{lane.name}: {_of(lane.deferred, 'request')} to be retried soon.",
        )


def _work_left(queued: int, mean_ms: float, limit: int) -> str:
    seconds = queued * mean_ms / 1000 / limit
    return f": {_span(seconds)} of work at {mean_ms:,.0f} ms a call"


def _notice(severity: Severity, lane: str | None, text: str) -> Notice:
    return Notice(severity=severity, lane=lane, text=text)


def _of(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _span(seconds: float) -> str:
    """In a unit of which there are at least one and a half."""
    units = (("s", 1), ("min", 60), ("h", 3600))
    unit, length = next(u for u in reversed(units) if seconds >= 1.5 * u[1] or u[1] == 1)
    return f"{seconds / length:.0f} {unit}"
