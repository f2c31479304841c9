"""Decides what an error response of a provider means, with pure functions.

The rules are in `vendor_errors`. The bodies that vendors send are in the tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from shared.dialects.refusal_reason import codes, reason
from shared.models import ErrorCode
from shared.queue.verdict import Verdict
from worker.providers.retry_after import MAX_SEARCHED_TEXT, values_of, wait_s
from worker.providers.vendor_errors import (
    CONTEXT_TOO_LONG,
    FILTERED,
    MODERATED,
    OVERLOADED,
    QUOTA,
    SPENT,
    TOO_LARGE_FOR_THE_LIMIT,
    UNAVAILABLE,
    words,
)

_LONG_WAIT_S = 3600.0  # a limit per day is a quota if the provider asks to wait this long

# 415: vLLM answers 415 under load, although the content type of every call is JSON:
# https://github.com/vllm-project/vllm/issues/14333. 424: a model of Bedrock stopped with an error.
_TRANSIENT = {408, 409, 415, 424, 425}
# Cloudflare answers 522 and 524 for a provider that did not answer in time:
# https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
_TIMEOUTS = {408, 504, 522, 524}
_OVERLOADS = {498, 529}  # 498: Groq, https://console.groq.com/docs/errors; 529: Anthropic
_MAY_BE_OVERLOADS = {*_OVERLOADS, 503}  # 503 is an overload if the response names a wait

_NO_MODEL_CODES = {
    "modelnotfound",
    "modelnotavailable",
    "invalidmodel",
    "unknownmodel",
    "deploymentnotfound",
}
_NO_KEY_CODES = {"invalidapikey", "apikeyinvalid"}
_NO_MODEL = words(
    r"(invalid|unknown|no such) model|not a valid model|model not (exist|found)"
    r"|models?[\s:/]+\S+\s(is not found|not found|does not exist|is not a valid)"
)
_MODEL = words(r"\b(models?|deployment|engine|endpoints? found)\b")
_NO_ROUTE = words(
    r"invalid url|request url|cannot (get|post)|(no such|unknown|no) (route|page|path|url)"
    r"|(route|page|path|url) not found"
)
_NO_KEY = words(r"(incorrect|invalid) api key|api key not valid")

_CURRENT_QUOTA = words("exceeded your current quota")
_LIMIT_0 = words(r"\blimit: 0\b(?!\.)")  # the account may not use the model at all
_PER_DAY = words(r"per[ -]?(day|month)\b|\b(daily|monthly)\b")
_PER_MINUTE = words(r"\b(second|minute|hour)")  # a text with this, too, may list all limits
_ACCOUNT_LIMIT = words(
    r"\b(account|api[ -]?key|key|organi[sz]ation|project|team|workspace|user)('s|s')?"
    r"( \w+){0,3} limit"
)
_ONE_MODEL = words(r"\b(model|deployment)\b|free-models|\bfor \S+ in organization\b")


@dataclass(frozen=True, slots=True)
class Judgement:
    """Says what an error response means. The fields are as in `ProviderError`."""

    verdict: Verdict
    code: ErrorCode
    wait_s: float | None = None
    covers_account: bool = False


@dataclass(frozen=True, slots=True)
class _Response:
    """Holds what the rules look at. `safe_text` contains no part of the prompt."""

    status: int
    error: object
    names: frozenset[str]
    text: str
    safe_text: str
    wait_s: float | None


def judge(
    status: int, headers: Mapping[str, str], error: object, *, safe_text: str, now: datetime
) -> Judgement:
    """Returns the meaning of an error response.

    status: the HTTP status of the response, or the status that corresponds to an error in the JSON
        of a response with 200.
    headers: the names may be in upper or lower case, as in `httpx.Headers`.
    error: the JSON of the response, a text, or None.
    safe_text: the reason without the key and the prompt. A response may repeat the prompt, and
        words of a prompt must not pause a deployment, which serves other requests, too.
    now: the time of the response.
    """
    text, names = reason(error)[:MAX_SEARCHED_TEXT], codes(error) | _bedrock_code(headers)
    wait = wait_s(headers, error, text, now)
    response = _Response(status, error, names, text, safe_text, wait)
    return _quota(response) or _of_the_item(response) or _limit(response) or _other(response)


def _quota(response: _Response) -> Judgement | None:
    status, names, text = response.status, response.names, response.text
    is_limit = status == HTTPStatus.TOO_MANY_REQUESTS
    verdict, code = Verdict.QUOTA_EXHAUSTED, ErrorCode.QUOTA_EXHAUSTED
    covers_account = True
    if status == HTTPStatus.PAYMENT_REQUIRED:
        code = ErrorCode.PAYMENT_REQUIRED
    elif QUOTA.applies(status, names, text):
        pass
    elif is_limit and _is_used_up(response):
        covers_account = _covers_account(response)
    # A 429 does not repeat the prompt.
    elif not SPENT.applies(status, names, text if is_limit else response.safe_text):
        return None
    return Judgement(verdict, code, response.wait_s, covers_account)


def _of_the_item(response: _Response) -> Judgement | None:
    for rule in (CONTEXT_TOO_LONG, TOO_LARGE_FOR_THE_LIMIT, FILTERED, MODERATED):
        if rule.applies(response.status, response.names, response.text):
            return Judgement(rule.verdict, rule.code)
    return None


def _limit(response: _Response) -> Judgement | None:
    status, wait = response.status, response.wait_s
    # A 429 does not repeat the prompt.
    is_limit = status == HTTPStatus.TOO_MANY_REQUESTS
    text = response.text if is_limit else response.safe_text
    is_overload = status in _OVERLOADS or (status in _MAY_BE_OVERLOADS and wait is not None)
    if is_overload or any(
        rule.applies(status, response.names, text) for rule in (OVERLOADED, UNAVAILABLE)
    ):
        return Judgement(Verdict.OVERLOADED, ErrorCode.OVERLOADED, wait)
    if is_limit:
        covers_account = _covers_account(response)
        return Judgement(Verdict.RATE_LIMITED, ErrorCode.RATE_LIMITED, wait, covers_account)
    return None


def _other(response: _Response) -> Judgement:
    status, names = response.status, response.names
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT:
        code = ErrorCode.TIMEOUT if status in _TIMEOUTS else ErrorCode.PROVIDER_ERROR
        return Judgement(Verdict.TRANSIENT, code)
    if _says_no_model(status, response.text, names):
        return Judgement(Verdict.MODEL_NOT_FOUND, ErrorCode.MODEL_NOT_FOUND)
    says_no_key = names & _NO_KEY_CODES or _NO_KEY.search(response.safe_text)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or says_no_key:
        # A key that gets a 403 may be good for other models.
        covers_account = status != HTTPStatus.FORBIDDEN
        return Judgement(
            Verdict.UNAUTHORIZED, ErrorCode.UNAUTHORIZED, covers_account=covers_account
        )
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Judgement(Verdict.CONTEXT_TOO_LONG, ErrorCode.CONTEXT_TOO_LONG)
    return Judgement(Verdict.REJECTED, ErrorCode.INVALID_REQUEST)


def _says_no_model(status: int, text: str, names: frozenset[str]) -> bool:
    if names & _NO_MODEL_CODES or _NO_MODEL.search(text):
        return True
    # A path that the provider does not have, for example because the base URL is wrong, has the
    # same status as an unknown model.
    is_model = status == HTTPStatus.NOT_FOUND and ("404" in names or _MODEL.search(text))
    return bool(is_model) and not _NO_ROUTE.search(text)


def _is_used_up(response: _Response) -> bool:
    """Returns whether the limit of a 429 allows no call within minutes, such as a daily limit."""
    text, wait = response.text, response.wait_s
    if _LIMIT_0.search(text) or any("PerDay" in quota for quota in _quotas(response.error)):
        return True
    # Google writes this sentence for every limit.
    if wait is None and _CURRENT_QUOTA.search(text) and "resourceexhausted" not in response.names:
        return True
    if not _PER_DAY.search(text):
        return False
    return not _PER_MINUTE.search(text) if wait is None else wait >= _LONG_WAIT_S


def _covers_account(response: _Response) -> bool:
    """Returns whether the response says that the limit covers all models of the account."""
    if quotas := _quotas(response.error):
        return not any("PerModel" in quota or "PerBaseModel" in quota for quota in quotas)
    return bool(_ACCOUNT_LIMIT.search(response.text)) and not _ONE_MODEL.search(response.text)


def _quotas(error: object) -> list[str]:
    """Returns the names of Google's quotas that a request exceeded (google.rpc.QuotaFailure).

    An example: `GenerateRequestsPerDayPerProjectPerModel-FreeTier`.
    """
    return list(map(str, values_of(error, "quotaId")))


def _bedrock_code(headers: Mapping[str, str]) -> frozenset[str]:
    """Returns the code in a header of Bedrock, such as `ThrottlingException:http://…`."""
    name = headers.get("x-amzn-errortype", "").partition(":")[0].rpartition("#")[2]
    return frozenset({name.lower()} - {""})
