"""Decides what an error response of a provider means, with pure functions."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from shared.models import ErrorCode
from worker.providers.errors import ProviderError, Verdict

_TRANSIENT_STATUSES = {408, 409, 425}  # transient statuses in addition to 5xx
# Cloudflare answers 522 and 524 for a provider that did not answer in time:
# https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
_TIMEOUT_STATUSES = {408, 504, 522, 524}
_OVERLOAD_STATUSES = {503, 529}

# The vendors' codes, in lower case and without punctuation.
_NO_MODEL_CODES = {
    "modelnotfound",
    "modelnotavailable",
    "invalidmodel",
    "unknownmodel",
    "deploymentnotfound",
}
_NO_KEY_CODES = {"invalidapikey", "apikeyinvalid"}
_MODERATION_CODES = {"contentfilter", "contentpolicyviolation", "moderation", "flaggedinput"}
_NO_MODEL = re.compile(
    r"(invalid|unknown|no such) model|not a valid model|model not (exist|found)"
    r"|models?[\s:/]+\S+\s(is not found|not found|does not exist|is not a valid)",
    re.IGNORECASE,
)
_MODEL = re.compile(r"\b(models?|deployment|engine|endpoints? found)\b", re.IGNORECASE)
_NO_ROUTE = re.compile(
    r"invalid url|request url|cannot (get|post)|(no such|unknown|no) (route|page|path|url)"
    r"|(route|page|path|url) not found",
    re.IGNORECASE,
)
_NO_KEY = re.compile(r"(incorrect|invalid) api key|api key not valid", re.IGNORECASE)
_MODERATION = re.compile(r"flagged|moderat|content.(filter|policy)|safety", re.IGNORECASE)


def refusal(
    provider: str,
    status: int,
    text: str,
    codes: frozenset[str],
    headers: Mapping[str, str],
    *,
    shown: str,
) -> ProviderError:
    """Returns the exception for an error.

    status: the HTTP status of the response, or the status that corresponds to an error in the JSON
        of a response with 200.
    text: the provider's reason, or "". codes: see `shared.dialects.reason.codes`.
    shown: `text` without keys and prompts.
    """
    message = f"{provider} answered {status}" + (f": {shown}" if shown else "")
    wait_s = retry_after_s(headers, datetime.now(UTC))
    if status == HTTPStatus.TOO_MANY_REQUESTS or (
        status in _OVERLOAD_STATUSES and wait_s is not None
    ):
        is_limit = status == HTTPStatus.TOO_MANY_REQUESTS
        verdict = Verdict.RATE_LIMITED if is_limit else Verdict.OVERLOADED
        return ProviderError(
            verdict, ErrorCode.RATE_LIMITED, message, status_code=status, wait_s=wait_s
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_STATUSES:
        code = ErrorCode.TIMEOUT if status in _TIMEOUT_STATUSES else ErrorCode.PROVIDER_ERROR
        return ProviderError(Verdict.TRANSIENT, code, message, status_code=status)
    code = _rejection(status, text, codes)
    return ProviderError(_VERDICTS.get(code, Verdict.REJECTED), code, message, status_code=status)


_VERDICTS = {
    ErrorCode.MODEL_NOT_FOUND: Verdict.MODEL_NOT_FOUND,
    ErrorCode.UNAUTHORIZED: Verdict.UNAUTHORIZED,
    ErrorCode.PAYMENT_REQUIRED: Verdict.QUOTA_EXHAUSTED,
}


def _rejection(status: int, text: str, codes: frozenset[str]) -> ErrorCode:
    if _says_no_model(status, text, codes):
        return ErrorCode.MODEL_NOT_FOUND
    if _says_no_key(status, text, codes):
        return ErrorCode.UNAUTHORIZED
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return ErrorCode.PAYMENT_REQUIRED
    return ErrorCode.INVALID_REQUEST


def _says_no_model(status: int, text: str, codes: frozenset[str]) -> bool:
    if codes & _NO_MODEL_CODES or _NO_MODEL.search(text):
        return True
    # A path that the provider does not have, for example because the base URL is wrong, has the
    # same status as an unknown model.
    is_model = status == HTTPStatus.NOT_FOUND and ("404" in codes or _MODEL.search(text))
    return bool(is_model) and not _NO_ROUTE.search(text)


def _says_no_key(status: int, text: str, codes: frozenset[str]) -> bool:
    if (
        status == HTTPStatus.FORBIDDEN
    ):  # providers also answer 403 if a moderation refuses the prompt
        return not (codes & _MODERATION_CODES or _MODERATION.search(text))
    if codes & _NO_KEY_CODES or _NO_KEY.search(text):
        return True
    return status == HTTPStatus.UNAUTHORIZED


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Returns the seconds to wait according to Retry-After (RFC 9110, 10.2.3).

    The header contains seconds or a date. A date is compared with the Date header, or with `now` if
    there is no Date header. Returns None if Retry-After is missing or invalid.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return seconds if 0 <= seconds < float("inf") else None
    until, sent = _http_date(value), _http_date(headers.get("date", ""))
    return max(0.0, (until - (sent or now)).total_seconds()) if until else None


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
