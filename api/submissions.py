"""From a request's options to what the store is told."""

from api.errors import validation_error
from api.job_events import PUBLISH_PROGRESS_S
from shared.jobs.submission import Submission
from shared.models import JobOptions
from shared.settings import Settings


def submission(
    settings: Settings,
    owner: str,
    *,
    options: JobOptions | None = None,
    key: str | None = None,
    interactive: bool = False,
    followed: bool = False,
) -> Submission:
    """Raises RequestValidationError where the deployment cannot do what is asked."""
    options = options or JobOptions()
    if options.webhook_url and settings.webhook_secret is None:
        raise validation_error(
            "this deployment has no WEBHOOK_SECRET to sign with", "body", "webhook_url"
        )
    return Submission(
        owner=owner,
        interactive=interactive,
        deadline_s=options.deadline_s,
        webhook_url=options.webhook_url,
        idempotency_key=key,
        follow_s=PUBLISH_PROGRESS_S if followed else None,
    )
