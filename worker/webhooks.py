"""Defines the task that notifies a webhook of the end of a job. Each run makes one attempt.

The task follows Standard Webhooks 1.0 (https://www.standardwebhooks.com): messages are signed, and
failed deliveries are retried for hours with the same id.
"""

import hmac
import random
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from time import perf_counter
from typing import Any

import orjson
import structlog

from shared.jobs.service import JobNotFound, Jobs
from shared.models import JobStatus, JobSummary
from shared.providers import WEBHOOK_LANE
from shared.queue.codec import OPENAI_EVENT
from shared.queue.ids import batch_id
from shared.queue.item_results import Result
from shared.redis.client import RedisUnavailable
from worker.call_metrics import CallMetrics
from worker.outcomes import Attempt, Finished, Retry, TaskOutcome
from worker.webhook_client import DeliveryFailed, post

MAX_DELIVERIES = 20  # limit of running deliveries of all workers; a single owner gets half
RETRY_DELAYS_S = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600)  # about 18 hours in all

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WebhookContext:
    """Holds what all deliveries of this process share. arq's ctx has it as `webhook_context`."""

    jobs: Jobs
    signing_key: bytes | None
    allow_private: bool
    calls: CallMetrics


def signing_key(secret: str) -> bytes:
    return b64decode(secret.removeprefix("whsec_"))


async def deliver_webhook(
    ctx: dict[str, Any], attempt: Attempt, job_id: str, url: str, owner: str, form: str = ""
) -> TaskOutcome:
    """Posts the summary of the job to `url`, or OpenAI's event if `form` is OPENAI_EVENT.

    Makes one attempt. Returns a Retry after a failure, unless a retry would fail, too, or all
    retries are used up.
    """
    context: WebhookContext = ctx["webhook_context"]
    started = perf_counter()
    failure = None
    try:
        await _deliver(context, job_id, url, owner, form)
    except DeliveryFailed as error:
        failure = error
    code = "failed" if failure else ""
    context.calls.add_call(WEBHOOK_LANE, "", code, (perf_counter() - started) * 1000)
    if failure is None:
        return Finished(Result(attempts=attempt.number))
    log.info("webhook_failed", job=job_id, attempt=attempt.number, reason=str(failure))
    if failure.final or attempt.number > len(RETRY_DELAYS_S):
        return Finished(Result(error=str(failure), attempts=attempt.number))
    # Random, so that deliveries that failed together are not retried at the same time.
    spread = random.uniform(0.9, 1.1)  # noqa: S311 — not for security
    return Retry(RETRY_DELAYS_S[attempt.number - 1] * spread)


async def _deliver(context: WebhookContext, job_id: str, url: str, owner: str, form: str) -> None:
    if context.signing_key is None:
        raise DeliveryFailed("WEBHOOK_SECRET is not set for the workers")
    try:
        encode = _openai_event if form == OPENAI_EVENT else _job_event
        body = encode(await context.jobs.summary(job_id, owner))
    except JobNotFound:
        raise DeliveryFailed("the job's results have expired", final=True) from None
    except RedisUnavailable:
        raise DeliveryFailed("the job's status could not be read: Redis is unavailable") from None
    timestamp = str(int(datetime.now(UTC).timestamp()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "llm-batch-orchestrator",
        "webhook-id": job_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": _signature(context.signing_key, job_id, timestamp, body),
    }
    status = await post(url, headers, body, allow_private=context.allow_private, owner=owner)
    _raise_for_status(status)


def _job_event(job: JobSummary) -> bytes:
    summary = job.model_dump(mode="json", exclude={"webhook"})
    links = {"job": f"/jobs/{job.job_id}", "results": f"/jobs/{job.job_id}/results"}
    return orjson.dumps(
        {
            "type": "job.finished",
            "timestamp": summary["finished_at"],
            "data": {**summary, "links": links},
        }
    )


# https://platform.openai.com/docs/api-reference/webhook-events
_OPENAI_EVENTS = {
    JobStatus.COMPLETED: "batch.completed",
    JobStatus.CANCELLED: "batch.cancelled",
    JobStatus.DEADLINE_EXCEEDED: "batch.expired",
}


def _openai_event(job: JobSummary) -> bytes:
    return orjson.dumps(
        {
            "id": f"evt_{job.job_id}",
            "object": "event",
            "created_at": int(job.finished_at.timestamp()) if job.finished_at else 0,
            "type": _OPENAI_EVENTS[job.status],
            "data": {"id": batch_id(job.job_id)},
        }
    )


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{b64encode(hmac.digest(key, signed, 'sha256')).decode()}"


def _raise_for_status(status: int) -> None:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise DeliveryFailed(
            f"the webhook answered {status}: redirects are not followed", final=True
        )
    # A webhook that answers 410 asks for no more messages.
    raise DeliveryFailed(f"the webhook answered {status}", final=status == HTTPStatus.GONE)
