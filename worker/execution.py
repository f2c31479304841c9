"""Runs the task of a claimed item, and turns the task's outcome into a settlement."""

from collections.abc import Mapping
from math import inf
from typing import Any

from arq.cron import CronJob
from arq.worker import Function

from shared.models import ErrorCode
from shared.queue.codec import decode_payload
from shared.queue.item_results import Result
from shared.queue.leases import Lease, Settlement
from worker.outcomes import Attempt, Finished, NoRetriesLeft, Retry, TaskOutcome


async def execute(
    lease: Lease, functions: Mapping[str, Function | CronJob], ctx: dict[Any, Any]
) -> TaskOutcome:
    """Runs the task that the item names, and returns the task's outcome.

    Raises every exception of the task and of `decode_payload`, and KeyError for an unknown task.
    """
    name, args = decode_payload(lease.payload)
    attempt = Attempt(
        item_id=lease.item_id,
        lease_id=lease.lease_id,
        lane=lease.lane,
        number=lease.attempts + 1,
        calls=lease.attempts + lease.uncounted + 1,
        queued_ms=lease.queued_ms,
        retried_ms=lease.retried_ms,
        timeout_factor=lease.timeout_factor,
        account=lease.account,
        model=lease.model,
        tried=lease.tried,
        owner=lease.owner,
        remaining_s=inf if lease.remaining_ms is None else max(lease.remaining_ms, 0) / 1000,
    )
    outcome: TaskOutcome = await functions[name].coroutine(ctx, attempt, *args)
    return outcome


def settlement(lease: Lease, outcome: TaskOutcome) -> Settlement:
    match outcome:
        case Finished(result, fault, usage):
            return Settlement(
                lease,
                "fail" if result.error else "complete",
                result.to_json(),
                latency_ms=result.latency_ms,
                fault=fault,
                usage=usage,
            )
        case Retry(delay_s):
            return _after_failure(lease, outcome, delay_s)
        case NoRetriesLeft():
            return _after_failure(lease, outcome, None)


def _after_failure(
    lease: Lease, outcome: Retry | NoRetriesLeft, delay_s: float | None
) -> Settlement:
    result = outcome.result
    return Settlement(
        lease,
        "retry",
        result.to_json() if result else b"",
        latency_ms=result.latency_ms if result else 0,
        delay_s=delay_s,
        fault=outcome.fault,
        usage=outcome.usage,
    )


def internal_error(lease: Lease) -> Finished:
    """Returns the outcome of an item whose task raised an exception."""
    return Finished(
        Result(
            error="internal error: the worker could not process this request;"
            " the worker's log has the details",
            error_code=ErrorCode.INTERNAL_ERROR,
            attempts=lease.attempts + lease.uncounted + 1,
            queued_ms=lease.queued_ms,
            retried_ms=lease.retried_ms,
        )
    )
