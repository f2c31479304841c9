"""The result of one request."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from shared.models.response_base import Outbound


class ErrorCode(StrEnum):
    """The reason why a request has no answer. Codes may be added, but never renamed or removed."""

    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    PROVIDER_ERROR = "provider_error"
    BAD_RESPONSE = "bad_response"
    INVALID_REQUEST = "invalid_request"
    UNAUTHORIZED = "unauthorized"
    PAYMENT_REQUIRED = "payment_required"
    MODEL_NOT_FOUND = "model_not_found"
    PROVIDER_NOT_CONFIGURED = "provider_not_configured"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    WORKER_LOST = "worker_lost"
    INTERNAL_ERROR = "internal_error"


class LLMResponse(Outbound):
    """The result of one request: an answer, or an error."""

    request_id: str | None
    provider: str
    model: str
    content: str = Field(description="The answer; empty if an error occurred.")
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    latency_ms: float = Field(
        description="The duration of the provider call that gave this result."
    )
    timestamp: datetime = Field(description="When the request finished, in UTC.")
    error: str | None = Field(description="What went wrong, for people; `null` for an answer.")
    error_code: ErrorCode | None
    attempts: int = Field(description="The number of calls to the provider.")
    finish_reason: str | None = Field(
        description="Why the model stopped, in the provider's words: `stop`, `length`, …"
    )
    cost_usd: float | None = Field(
        description="What the provider charged; `null` if it does not report that."
    )
    queued_ms: float = Field(description="The time from acceptance to the start of that call.")
    retried_ms: float = Field(
        description="The part of `queued_ms` after the start of the first call."
    )


class JobItem(LLMResponse):
    """One line of a stream of results."""

    index: int = Field(description="The position of the request in the job, from 0.")
    cursor: int = Field(
        description="Pass it as `after` to continue the stream with the line after this one."
    )
