"""Defines the result of one request."""

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
    content: str = Field(description="The answer; empty if the request has an error.")
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    latency_ms: float = Field(
        description="The duration of the provider call that gave this result."
    )
    timestamp: datetime = Field(description="The time when the request finished, in UTC.")
    error: str | None = Field(
        description="A description of the error for a human reader; `null` for an answer."
    )
    error_code: ErrorCode | None
    attempts: int = Field(description="The number of provider calls for this request.")
    finish_reason: str | None = Field(
        description="Why the model stopped, as the provider reports it, for example `stop` or"
        " `length`."
    )
    cost_usd: float | None = Field(
        description="The price that the provider charged; `null` if the provider does not report"
        " it."
    )
    queued_ms: float = Field(
        description="The time from the acceptance of the job to the start of the provider call"
        " that gave this result."
    )
    retried_ms: float = Field(
        description="The part of `queued_ms` after the start of the first provider call."
    )


class JobItem(LLMResponse):
    """One line of a stream of results."""

    index: int = Field(description="The position of the request in the job, from 0.")
    cursor: int = Field(
        description="The value of `after` that continues the stream after this line."
    )
