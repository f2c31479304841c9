"""Defines the exception of a failed call to a provider."""

from collections.abc import Mapping
from types import MappingProxyType

from shared.models import ErrorCode
from shared.queue.verdict import Verdict


class ProviderError(Exception):
    """A call to a provider failed, or could not be made.

    verdict: what the failure means for the item and for the deployment.
    code: the error code of the item's result.
    message: text for the error of the item's result. It contains neither the key nor the prompt.
    status_code: the HTTP status, or the status that the body of a response with 200 reports. None
        without a whole response: no call was made, the call timed out, the connection failed, or
        the headers were not text.
    wait_s: the seconds that the provider asks to wait; None if the provider names no time.
    covers_account: whether the refusal is about the key, the account or the organisation, and so
        about all models.
    names: `type`, `param` and `code` of the provider's error, as far as the error has them.
    """

    def __init__(
        self,
        verdict: Verdict,
        code: ErrorCode,
        message: str,
        *,
        status_code: int | None = None,
        wait_s: float | None = None,
        covers_account: bool = False,
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.code = code
        self.message = message
        self.status_code = status_code
        self.wait_s = wait_s
        self.covers_account = covers_account
        self.names = names

    @property
    def reason(self) -> str:
        """Returns the reason for a pause, as the end of "… because the provider".

        All owners can read it, so it does not contain the provider's text.
        """
        meaning = _MEANINGS.get(self.verdict, "the call failed")
        if self.verdict is Verdict.UNREACHABLE:
            said = "could not be reached"
        elif self.status_code is None:
            said = _WITHOUT_RESPONSE.get(self.code, "did not answer")
        else:
            said = f"answered {self.status_code} ({meaning})"
        return said if self.wait_s is None else f"{said} and asked to wait {self.wait_s:g} s"


_MEANINGS = {
    Verdict.RATE_LIMITED: "too many requests",
    Verdict.OVERLOADED: "no capacity",
    Verdict.QUOTA_EXHAUSTED: "the account's quota or credit is used up",
    Verdict.UNAUTHORIZED: "the key was refused",
    Verdict.TRANSIENT: "an error of the provider",
    Verdict.UNFINISHED: "the answer was not complete",
    Verdict.MODEL_NOT_FOUND: "no such model",
    Verdict.CONTEXT_TOO_LONG: "the request is too long",
    Verdict.CONTENT_FILTERED: "the provider's moderation refused the request",
}
_WITHOUT_RESPONSE = {
    ErrorCode.TIMEOUT: "did not answer in time",
    ErrorCode.CONNECTION_ERROR: "closed the connection",
}
