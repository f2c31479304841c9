"""Accepts a job whose items may move to other models, and lets their calls fail."""

from typing import Any

from shared.jobs.store import Store
from shared.queue.claims import Queue
from shared.queue.fallback_chain import fallback_chain
from shared.queue.leases import Fault, Lease, Settlement
from shared.queue.verdict import Verdict
from support.claims import claim, commit, settle

QUOTA = Fault(Verdict.QUOTA_EXHAUSTED, "answered 429", "quota_exhausted", status_code=429)
BROKEN = Fault(Verdict.TRANSIENT, "answered 500", "provider_error", status_code=500)
UNREACHABLE = Fault(Verdict.UNREACHABLE, "could not be reached", "connection_error")
NOT_FOUND = Fault(Verdict.MODEL_NOT_FOUND, "answered 404", "model_not_found", status_code=404)
FILTERED = Fault(Verdict.CONTENT_FILTERED, "answered 403", "content_filtered", status_code=403)
UNFINISHED = Fault(Verdict.UNFINISHED, "was not finished", "incomplete")
ABSENT = Fault(Verdict.NOT_CONFIGURED, "has no API key", "provider_not_configured", ignored=True)
INVALID = Fault(Verdict.REJECTED, "answered 400", "invalid_request", status_code=400)
LIMITS = {"a": 10, "b": 10, "c": 10}


async def accept(
    store: Store, items: int = 3, *, filtered: bool = False, after_s: float = 60, **options: Any
) -> None:
    """Accepts a job whose items are for model m of provider a, with two fallbacks.

    The fallbacks are model Org/N of provider b, then model o of provider c.
    """
    chain = fallback_chain([("b", "Org/N"), ("c", "o")], after_s=after_s, content_filtered=filtered)
    async with store.staging("job") as staging:
        for index in range(items):
            await staging.add("a", f"{index}".encode(), (None, "a", "m"), chain)
        await commit(staging, **options)


async def served(queue: Queue) -> list[Lease]:
    return await claim(queue, **LIMITS)


async def refuse(queue: Queue, leases: list[Lease], fault: Fault, *, last: bool = False) -> None:
    """Settles failed calls as a worker does. last: whether no retry is left."""
    final = fault.verdict in {"model_not_found", "content_filtered", "rejected"}
    outcome: Any = "fail" if final else "retry"
    delay_s = None if last else 0.0
    settlements = [
        Settlement(lease, outcome, b'{"error": "x"}', delay_s=delay_s, fault=fault)
        for lease in leases
    ]
    await settle(queue, *settlements)
