"""Checks whether the deployment can deliver the webhook that a client requests."""

from api.errors.validation_error import validation_error
from shared.settings import Settings


def check_webhook(url: str | None, settings: Settings) -> None:
    """Raises RequestValidationError if there is a URL, but WEBHOOK_SECRET is not set."""
    if url and settings.webhook_secret is None:
        raise validation_error(
            "webhooks are disabled, because WEBHOOK_SECRET is not set on the server",
            "body",
            "webhook_url",
        )
