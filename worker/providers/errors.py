"""Why a call gave no answer.

ProviderError
├── RateLimited    the provider asks to wait: the whole lane pauses, then the item runs again
├── Transient      this item runs again after a back-off
└── Rejected       final
"""

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
        if self.retry_after_s is None:
            return f"answered {self.status_code} without Retry-After"
        return f"answered {self.status_code}, Retry-After {self.retry_after_s:g} s"


class Transient(ProviderError):
    pass


class Rejected(ProviderError):
    pass
