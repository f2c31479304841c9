"""Why a call gave no answer.

ProviderError
├── RateLimited    the provider asks to wait: the whole lane pauses, then the item runs again
├── Transient      this item runs again after a back-off
└── Rejected       final
"""

from http import HTTPStatus

from shared.models import ErrorCode


class ProviderError(Exception):
    """`message` goes to the client; it holds neither the key nor the prompt."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RateLimited(ProviderError):
    """429, or 503/529 with Retry-After; `retry_after_s` as asked for, None if it was not said."""

    def __init__(
        self, message: str, *, retry_after_s: float | None, status_code: int = 429
    ) -> None:
        super().__init__(ErrorCode.RATE_LIMITED, message)
        self.retry_after_s = retry_after_s
        self.status_code = status_code

    @property
    def reason(self) -> str:
        """Without the provider's text, which is for the item's owner."""
        meaning = (
            "too many requests"
            if self.status_code == HTTPStatus.TOO_MANY_REQUESTS
            else "no capacity"
        )
        asked = "" if self.retry_after_s is None else f" and asked to wait {self.retry_after_s:g} s"
        return f"answered {self.status_code} ({meaning}){asked}"


class Transient(ProviderError):
    pass


class Rejected(ProviderError):
    pass
