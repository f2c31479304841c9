"""Makes the judgements that tests expect the project to make about error responses."""

from datetime import UTC, datetime
from typing import Any

from shared.models import ErrorCode
from shared.queue.verdict import Verdict
from worker.providers.verdicts import Judgement

# Status, headers and body of a response, and what they mean; by vendor.
Responses = dict[str, list[tuple[int, dict[str, str], Any, Judgement]]]

NOW = datetime(2026, 11, 6, 8, 0, tzinfo=UTC)
EPOCH = 1_793_952_000  # NOW as seconds since 1970


def limited(wait_s: float | None = None, *, account: bool = False) -> Judgement:
    return Judgement(Verdict.RATE_LIMITED, ErrorCode.RATE_LIMITED, wait_s, covers_account=account)


def overloaded(wait_s: float | None = None) -> Judgement:
    return Judgement(Verdict.OVERLOADED, ErrorCode.OVERLOADED, wait_s)


def spent(
    wait_s: float | None = None,
    *,
    account: bool = True,
    code: ErrorCode = ErrorCode.QUOTA_EXHAUSTED,
) -> Judgement:
    return Judgement(Verdict.QUOTA_EXHAUSTED, code, wait_s, covers_account=account)


UNPAID = spent(code=ErrorCode.PAYMENT_REQUIRED)
REFUSED_KEY = Judgement(Verdict.UNAUTHORIZED, ErrorCode.UNAUTHORIZED, covers_account=True)
TOO_LONG_REQUEST = Judgement(Verdict.CONTEXT_TOO_LONG, ErrorCode.CONTEXT_TOO_LONG)
FILTERED_REQUEST = Judgement(Verdict.CONTENT_FILTERED, ErrorCode.CONTENT_FILTERED)
TRANSIENT = Judgement(Verdict.TRANSIENT, ErrorCode.PROVIDER_ERROR)
TIMEOUT = Judgement(Verdict.TRANSIENT, ErrorCode.TIMEOUT)
REJECTED = Judgement(Verdict.REJECTED, ErrorCode.INVALID_REQUEST)
