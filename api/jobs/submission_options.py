"""Creates a submission from the options of an HTTP request."""

from api.errors.validation_error import validation_error
from api.streams.job_updates import PUBLISH_PROGRESS_S
from shared.jobs.batch_details import BatchDetails
from shared.jobs.submission import Submission
from shared.models import JobOptions
from shared.settings import Settings


def new_submission(
    settings: Settings,
    owner: str,
    *,
    options: JobOptions | None = None,
    key: str | None = None,
    body_digest: str | None = None,
    interactive: bool = False,
    followed: bool = False,
    is_live: bool = False,
    is_repetition: bool = False,
    batch: BatchDetails | None = None,
    file_use: str | None = None,
    file_seen: str | None = None,
    result_ttl_s: int | None = None,
) -> Submission:
    """Returns the submission.

    Raises RequestValidationError if a webhook is requested and WEBHOOK_SECRET is not set.
    """
    options = options or JobOptions()
    if options.webhook_url and settings.webhook_secret is None:
        raise validation_error(
            "webhooks are disabled, because WEBHOOK_SECRET is not set on the server",
            "body",
            "webhook_url",
        )
    return Submission(
        owner=owner,
        interactive=interactive,
        deadline_s=options.deadline_s,
        webhook_url=options.webhook_url,
        idempotency_key=key,
        body_digest=body_digest,
        is_live=is_live,
        is_repetition=is_repetition,
        follow_s=PUBLISH_PROGRESS_S if followed else None,
        batch=batch,
        file_use=file_use,
        file_seen=file_seen,
        result_ttl_s=result_ttl_s,
    )
