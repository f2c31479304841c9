"""Parses a snapshot, which is the state of a job at one moment. See queue/lua/snapshot.lua."""

from dataclasses import dataclass
from typing import Any

import orjson

from shared.jobs.staging import Meta
from shared.models import NATIVE


@dataclass(frozen=True, slots=True)
class Delivery:
    """Describes the delivery of a job's webhook."""

    result: bytes | None  # stored result; None before the delivery has finished
    attempts: int  # number of failed attempts


@dataclass(frozen=True, slots=True)
class Snapshot:
    total: int
    owner: str
    finished: int  # number of items with a result
    failed: int  # number of items whose result is an error
    queued: int  # number of items in QUEUE, QUARANTINE and DEFERRED
    parked: int  # number of items in QUARANTINE and DEFERRED
    accepted_ms: float
    started_ms: float | None
    finished_ms: float | None
    finished_early_as: str | None  # error code of the items without a result
    deadline_ms: float | None
    latency_ms: float  # sum of the latencies of all results
    retry_of: str | None
    retried_as: str | None
    webhook_url: str | None
    items_by_lane: dict[str, int]
    format: str  # name of the format of the job's requests
    delivery: Delivery | None  # None until the job has ended, or if it has no webhook
    metas: list[Meta] | None  # None if the job has more items than the caller's max_items
    # item index → stored result; None if metas is None, or if the results are large
    results: dict[int, bytes] | None


def parse_snapshot(reply: Any) -> Snapshot | None:  # noqa: ANN401 — snapshot.lua defines its shape
    """Returns the snapshot that `reply` describes, or None if there is no such job."""
    if reply is None:
        return None
    fields, finished, failed, queued, parked, delivery, *contents = reply
    (
        total,
        owner,
        accepted_ms,
        started_ms,
        finished_ms,
        finished_early_as,
        deadline_ms,
        latency_us,
        retry_of,
        retried_as,
        webhook_url,
        items_by_lane,
        request_format,
    ) = fields
    metas, results = (*contents, None, None)[:2]
    return Snapshot(
        total=int(total),
        owner=owner.decode(),
        finished=finished,
        failed=failed,
        queued=queued,
        parked=parked,
        accepted_ms=float(accepted_ms),
        started_ms=_number(started_ms),
        finished_ms=_number(finished_ms),
        finished_early_as=_text(finished_early_as),
        deadline_ms=_number(deadline_ms),
        latency_ms=int(latency_us or 0) / 1000,
        retry_of=_text(retry_of),
        retried_as=_text(retried_as),
        webhook_url=_text(webhook_url),
        items_by_lane=orjson.loads(items_by_lane) if items_by_lane else {},
        format=_text(request_format) or NATIVE,
        delivery=Delivery(*delivery) if delivery else None,
        metas=orjson.loads(metas) if metas else None,
        results=dict(zip(map(int, results[::2]), results[1::2], strict=True))
        if results is not None
        else None,
    )


def _number(value: bytes | None) -> float | None:
    return float(value) if value else None


def _text(value: bytes | None) -> str | None:
    return value.decode() if value else None
