"""Converts a failed request to an error of OpenAI's API, for live calls and files of results.

OpenAI's clients choose the class of their exception by the status, and repeat a call after 408,
409, 429 and 5xx unless `x-should-retry` is `false`. The header is `false` if the same call would
fail again, or if the provider may charge for each call: only the queue retries such a call, up to
MAX_RETRIES times.
"""

from dataclasses import dataclass
from http import HTTPStatus
from math import ceil

from api.errors.openai_errors import OpenAIError
from shared.models import ErrorCode, LLMResponse

MAX_RETRY_AFTER_S = 120.0  # longest wait after which OpenAI's clients repeat a call


@dataclass(frozen=True, slots=True)
class _Kind:
    """Says which status and code an error has, and whether the client should repeat the call.

    keeps: a status of the provider that begins with this text replaces `status`. Unless `keeps` is
        "", the provider's code replaces `code`.
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
    """Returns the error for a request that has failed.

    `param` and `type` are the provider's, if the provider sent them. `_Kind.keeps` says whether the
    provider's status and code are used, too.
    """
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

    OpenAI's client for Python does not repeat a call that must wait longer. A call that is repeated
    too early does no harm: the request waits in the queue.
    """
    wait_s = min(wait_s, MAX_RETRY_AFTER_S)
    return {"Retry-After": str(ceil(wait_s)), "retry-after-ms": str(ceil(wait_s * 1000))}


def stopped() -> OpenAIError:
    """Returns the error for a call that has not ended when this process stops waiting for it."""
    return OpenAIError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "this server stops before the call has ended; repeat the call",
        headers={"Retry-After": "1"},
    )
