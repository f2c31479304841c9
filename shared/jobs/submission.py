"""Defines the options of a submission, and the reasons to reject a submission.

SubmissionRejected
├── QueueFull             the owner would have too many queued items in a lane
├── QueueBytesFull        the owner's unfinished jobs and files would have too many bytes
├── TooManyFallbacks      the job has too many models with different fallbacks
├── IdempotencyConflict   the idempotency key was used for another submission
└── UploadExpired         the upload was too slow, so its first items have expired
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256

import orjson

from shared.jobs.batch_details import BatchDetails
from shared.jobs.new_item import NewItem
from shared.models import NATIVE
from shared.providers.lanes import shown_lane
from shared.settings import MAX_QUEUE_BYTES, Settings


class SubmissionRejected(Exception):
    """The submission was rejected, and none of its requests was accepted."""


class QueueFull(SubmissionRejected):
    """The owner would have more than `max_queue_depth` queued items in this lane."""

    def __init__(self, lane: str) -> None:
        super().__init__(lane)
        self.lane = lane
        self.shown_lane = shown_lane(lane)


class QueueBytesFull(SubmissionRejected):
    """The owner's unfinished jobs and files would exceed `max_queue_bytes`."""


class TooManyFallbacks(SubmissionRejected):
    """The job has too many models with different fallbacks in this lane.

    models: limit of the job's models that have queues of their own. lists: limit of the different
    lists of fallbacks of the other models in the lane.
    """

    def __init__(self, lane: str, models: int, lists: int) -> None:
        super().__init__(
            f"the job has more than {models} models, and the models of {shown_lane(lane)} after the"
            f" first {models} have more than {lists} different lists of fallbacks; nothing was"
            " accepted. Give these models the same fallbacks, or send several jobs"
        )


class IdempotencyConflict(SubmissionRejected):
    """The idempotency key was used for another submission, or for another file."""


class UploadExpired(SubmissionRejected):
    """The first items of the upload expired before the last items arrived."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Holds the owner and the options of a job that is submitted."""

    owner: str = ""  # name of the API key; "" if the installation has no API keys
    interactive: bool = False  # whether a client waits for the results
    deadline_s: float | None = None  # time from the acceptance to the deadline
    webhook_url: str | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None  # finds a disconnected client's job if there is no key
    is_live: bool = False  # whether a repetition can join the job while its first client waits
    is_repetition: bool = False  # whether the client says that it repeats the request
    follow_s: float | None = None  # time for which the progress is published
    result_ttl_s: int | None = None  # time from the job's end; None: the time of JobPolicy
    batch: BatchDetails | None = None  # None if the job was not created as OpenAI's batch
    file_use: str | None = None  # digest of the request that creates the batch
    file_seen: str | None = None  # id of the file's last batch when the request began


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """Holds the installation's settings that apply to every job."""

    result_ttl_s: int  # time for which results are kept after the end of the job
    idempotency_ttl_s: int  # time for which a key is known after the end of its job
    max_queue_depth: int  # limit of queued items per owner and lane
    max_queue_bytes: int = MAX_QUEUE_BYTES  # limit of an owner's unfinished jobs and files

    @classmethod
    def from_settings(cls, settings: Settings) -> "JobPolicy":
        return cls(
            result_ttl_s=settings.result_ttl_seconds,
            idempotency_ttl_s=settings.idempotency_ttl_seconds,
            max_queue_depth=settings.max_queue_depth,
            max_queue_bytes=settings.max_queue_bytes,
        )


# Raise this number when equal requests or options get another fingerprint than before.
FINGERPRINT_VERSION = 1
# The time to live of an idempotency key allows this time until the end of a job without a deadline.
MAX_KEY_S = 30 * 86_400


class Fingerprint:
    """Identifies a submission: equal requests and options have the same fingerprint.

    A fingerprint begins with its version. Fingerprints of different versions are never compared.

    The options are the deadline, the webhook's URL and the options of a batch. Of a request, the
    id, the metadata and the fields that are sent to the provider count. Fields without a value do
    not count: if a later version adds an optional field, a repeated submission still has the same
    fingerprint. The white space, the escapes and the order of fields in a foreign body do not
    count, because the idempotency keys that the Python client makes do not depend on them either.
    """

    def __init__(self, submission: Submission) -> None:
        options = f"{submission.deadline_s} {submission.webhook_url}\n"
        if submission.batch:
            options += submission.batch.identity()
        self._hash = sha256(options.encode())

    def add(self, item: NewItem) -> None:
        request, metadata = item.request, item.metadata
        if "body" in request:
            text = orjson.dumps(request["model"]).decode().join(request["body"])
            request = {**request, "body": [_canonical(text)]}
            metadata = metadata and _canonical(metadata)
        parts = (item.request_id, metadata, request)
        self._hash.update(orjson.dumps(parts) + b"\n")

    def hexdigest(self) -> str:
        return f"{FINGERPRINT_VERSION}:{self._hash.hexdigest()}"


def _canonical(text: str) -> str:
    """Returns the JSON in a form that depends only on its value.

    A text that orjson cannot read or write is returned unchanged.
    """
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return text


def early_limits(submission: Submission, policy: JobPolicy) -> Mapping[str, object] | None:
    """Returns the limits that accept.lua checks while a job is uploaded.

    Returns None if the upload may repeat an earlier job: that job's bytes already count, so the
    upload might be refused although it creates no job.
    """
    if submission.body_digest or submission.is_repetition:
        return None
    return {
        "max_depth": policy.max_queue_depth,
        "max_bytes": policy.max_queue_bytes,
        **({"idempotency_key": key} if (key := submission.idempotency_key) else {}),
    }


# accept.lua reads these options by the same names and with the same values.
_OPTIONS = tuple(
    option.name for option in fields(Submission) if option.name not in {"interactive", "batch"}
)


def acceptance(
    submission: Submission,
    policy: JobPolicy,
    *,
    fingerprint: str | None = None,
    webhook_payload: bytes | None = None,
    retry_of: str | None = None,
    request_format: str = NATIVE,
) -> dict[str, object]:
    """Returns the fields of a submission that accept.lua reads. Omits fields without a value.

    webhook_payload: payload of the item that delivers the webhook.
    """
    found: dict[str, object] = {
        name: value for name in _OPTIONS if (value := getattr(submission, name))
    }
    found |= {
        "owner": submission.owner,
        "priority_class": "interactive" if submission.interactive else "bulk",
        "result_ttl_s": submission.result_ttl_s or policy.result_ttl_s,
        "max_depth": policy.max_queue_depth,
        "max_bytes": policy.max_queue_bytes,
    }
    if submission.idempotency_key:
        found["idempotency_ttl_s"] = policy.idempotency_ttl_s
        found.pop("body_digest", None)
    if submission.batch:
        found |= {"batch": submission.batch.to_json(), "file_id": submission.batch.input_file_id}
    if fingerprint:
        found["fingerprint"] = fingerprint
    if webhook_payload:
        found["webhook_payload"] = webhook_payload.decode()
    if retry_of:
        found["retry_of"] = retry_of
    if request_format != NATIVE:
        found["format"] = request_format
    return found
