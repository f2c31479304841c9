"""Defines the models of HTTP requests and HTTP responses."""

from shared.models.jobs import (
    NATIVE,
    BatchLLMResponse,
    Job,
    JobList,
    JobStatus,
    JobSummary,
    WebhookState,
    WebhookStatus,
)
from shared.models.requests import (
    MAX_BATCH_REQUESTS,
    MAX_DEADLINE_S,
    MAX_NAME,
    BatchLLMRequest,
    JobOptions,
    LLMRequest,
    Message,
    Role,
    WebhookUrl,
)
from shared.models.responses import ErrorCode, JobItem, LLMResponse

__all__ = [
    "MAX_BATCH_REQUESTS",
    "MAX_DEADLINE_S",
    "MAX_NAME",
    "NATIVE",
    "BatchLLMRequest",
    "BatchLLMResponse",
    "ErrorCode",
    "Job",
    "JobItem",
    "JobList",
    "JobOptions",
    "JobStatus",
    "JobSummary",
    "LLMRequest",
    "LLMResponse",
    "Message",
    "Role",
    "WebhookState",
    "WebhookStatus",
    "WebhookUrl",
]
