"""Decides which error of OpenAI's API a live call gets whose request has failed.

OpenAI's clients choose the class of their exception by the status, and repeat a call after 408,
409, 429 and 5xx unless `x-should-retry` is `false`. A call for which the provider may charge is not
repeated, because the queue has already repeated it MAX_RETRIES times.
"""

from dataclasses import dataclass
from http import HTTPStatus
from math import ceil

from api.errors.openai_errors import OpenAIError
from shared.models import ErrorCode, LLMResponse

MAX_RETRY_AFTER_S = 120.0  # limit of what OpenAI's clients obey


@dataclass(frozen=True, slots=True)
class _Kind:
    """Says which status and code an error has, and whether the client should repeat the call.

    keeps: the beginning of the provider's statuses that replace `status`; "" for none. The
        provider's code then replaces `code`, too.
    """

    status: int
    code: str
    retry: bool
    keeps: str = ""


_KINDS = {
    ErrorCode.RATE_LIMITED: _Kind(429, "rate_limit_exceeded", retry=True),
    ErrorCode.OVERLOADED: _Kind(503, "server_is_overloaded", retry=True),
    ErrorCode.QUOTA_EXHAUSTED: _Kind(429, "insufficient_quota", retry=False),
    ErrorCode.PAYMENT_REQUIRED: _Kind(429, "insufficient_quota", retry=False),
    ErrorCode.TIMEOUT: _Kind(504, "timeout", retry=False),
    ErrorCode.CONNECTION_ERROR: _Kind(503, "connection_error", retry=True),
    ErrorCode.PROVIDER_ERROR: _Kind(502, "provider_error", retry=True, keeps="5"),
    ErrorCode.BAD_RESPONSE: _Kind(502, "bad_response", retry=False),
    ErrorCode.ANSWER_TOO_LARGE: _Kind(502, "answer_too_large", retry=False),
    ErrorCode.INVALID_REQUEST: _Kind(400, "invalid_request", retry=False, keeps="4"),
    ErrorCode.CONTEXT_TOO_LONG: _Kind(400, "context_length_exceeded", retry=False),
    ErrorCode.CONTENT_FILTERED: _Kind(400, "content_filter", retry=False),
    ErrorCode.UNAUTHORIZED: _Kind(401, "invalid_api_key", retry=False, keeps="403"),
    ErrorCode.MODEL_NOT_FOUND: _Kind(404, "model_not_found", retry=False),
    ErrorCode.PROVIDER_NOT_CONFIGURED: _Kind(404, "model_not_found", retry=False),
    ErrorCode.CANCELLED: _Kind(409, "cancelled", retry=False),
    ErrorCode.DEADLINE_EXCEEDED: _Kind(504, "deadline_exceeded", retry=False),
    ErrorCode.WORKER_LOST: _Kind(500, "worker_lost", retry=False),
    ErrorCode.INTERNAL_ERROR: _Kind(500, "internal_error", retry=False),
}


def call_error(answer: LLMResponse) -> OpenAIError:
    """Returns the error of a request that has failed, with the provider's names for it."""
    kind = _KINDS[answer.error_code or ErrorCode.INTERNAL_ERROR]
    given, names = answer.status_code, answer.refusal or {}
    status = given if given and kind.keeps and str(given).startswith(kind.keeps) else kind.status
    wait_s = names.get("wait_s") if kind.retry else None
    return OpenAIError(
        status,
        answer.error or "",
        code=(names.get("code") if kind.keeps else None) or kind.code,
        param=names.get("param"),
        kind=names.get("type"),
        headers={} if wait_s is None else _retry_after(wait_s),
        retry=kind.retry,
    )


def _retry_after(wait_s: float) -> dict[str, str]:
    """Returns the headers for a wait of at most MAX_RETRY_AFTER_S.

    After a longer wait, OpenAI's clients would give up. A request that is repeated too early costs
    no call: it waits in the queue.
    """
    wait_s = min(wait_s, MAX_RETRY_AFTER_S)
    return {"Retry-After": str(ceil(wait_s)), "retry-after-ms": str(ceil(wait_s * 1000))}


def stopped() -> OpenAIError:
    """Returns the error of a call that continues although this process stops."""
    return OpenAIError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "this server stops before the call has ended; repeat the call",
        headers={"Retry-After": "1"},
    )
