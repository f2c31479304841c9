"""Why a call to a provider gave no answer.

ProviderError
├── RateLimited    the provider asks to wait: the whole lane pauses, then the item is retried
├── Transient      the item is retried after a back-off
└── Rejected       final: the same call would fail again
"""

from http import HTTPStatus

from shared.models import ErrorCode


class ProviderError(Exception):
    """Carries what the decision about a retry and the client need.

    `message` goes to the client: it contains neither the key nor the prompt. `status_code` is the
    HTTP status, or the one that the body of a 200 reports; None if no complete response arrived.
    """

    def __init__(self, code: ErrorCode, message: str, *, status_code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status_code = status_code


class RateLimited(ProviderError):
    """The provider answered 429, or 503 or 529 with a Retry-After.

    `retry_after_s` is the wait that the provider asked for, None if it named none.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None, status_code: int = 429
    ) -> None:
        super().__init__(ErrorCode.RATE_LIMITED, message, status_code=status_code)
        self.retry_after_s = retry_after_s

    @property
    def reason(self) -> str:
        """Describes the refusal without the provider's text, which only its owner may see."""
        meaning = (
            "too many requests"
            if self.status_code == HTTPStatus.TOO_MANY_REQUESTS
            else "no capacity"
        )
        asked = "" if self.retry_after_s is None else f" and asked to wait {self.retry_after_s:g} s"
        return f"answered {self.status_code} ({meaning}){asked}"


class Transient(ProviderError):
    """A fault that may be gone at the next attempt."""


class Rejected(ProviderError):
    """The request, the key or the account is at fault."""
