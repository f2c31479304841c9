"""Lists the error codes of requests that have no answer."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Names why a request has no answer. Codes may be added, but never renamed or removed."""

    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    QUOTA_EXHAUSTED = "quota_exhausted"
    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    PROVIDER_ERROR = "provider_error"
    BAD_RESPONSE = "bad_response"
    ANSWER_TOO_LARGE = "answer_too_large"
    INVALID_REQUEST = "invalid_request"
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_FILTERED = "content_filtered"
    UNAUTHORIZED = "unauthorized"
    PAYMENT_REQUIRED = "payment_required"
    MODEL_NOT_FOUND = "model_not_found"
    PROVIDER_NOT_CONFIGURED = "provider_not_configured"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    WORKER_LOST = "worker_lost"
    INTERNAL_ERROR = "internal_error"
