"""Defines the exceptions of a call to a provider.

ProviderError
├── RateLimited    the provider asks to wait: the whole lane is paused, then the item is retried
├── Transient      the item is retried after a delay
└── Rejected       the item is not retried, because the same call would fail again
"""

from http import HTTPStatus

from shared.models import ErrorCode


class ProviderError(Exception):
    """Contains the data for the decision about a retry and for the result.

    `message` becomes part of the result, so it contains neither the key nor the prompt.
    `status_code` is the HTTP status, or the status that the body of a response with 200 reports.
    It is None if no complete response arrived.
    """

    def __init__(self, code: ErrorCode, message: str, *, status_code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status_code = status_code


class RateLimited(ProviderError):
    """The provider answered 429, or 503 or 529 with a Retry-After.

    `retry_after_s` is the number of seconds in Retry-After; None if there is no Retry-After.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None, status_code: int = 429
    ) -> None:
        super().__init__(ErrorCode.RATE_LIMITED, message, status_code=status_code)
        self.retry_after_s = retry_after_s

    @property
    def reason(self) -> str:
        """Returns the reason for the pause of the lane.

        All owners can read it, so it does not contain the provider's text.
        """
        meaning = (
            "too many requests"
            if self.status_code == HTTPStatus.TOO_MANY_REQUESTS
            else "no capacity"
        )
        asked = "" if self.retry_after_s is None else f" and asked to wait {self.retry_after_s:g} s"
        return f"answered {self.status_code} ({meaning}){asked}"


class Transient(ProviderError):
    """The call failed, but the next attempt may succeed."""


class Rejected(ProviderError):
    """The provider refused the request, the key or the account."""
