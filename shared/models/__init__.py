"""Defines the models of HTTP requests and HTTP responses."""

from shared.models.batches import (
    MAX_BATCH_REQUESTS,
    MAX_DEADLINE_S,
    AnyBatch,
    BatchLLMRequest,
    BatchOutline,
    JobOptions,
    UniqueRequestIds,
    WebhookUrl,
)
from shared.models.error_codes import ErrorCode
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
from shared.models.messages import Message, Role
from shared.models.requests import MAX_NAME, AnyRequest, LLMRequest, PlainRequest
from shared.models.responses import JobItem, LLMResponse

__all__ = [
    "MAX_BATCH_REQUESTS",
    "MAX_DEADLINE_S",
    "MAX_NAME",
    "NATIVE",
    "AnyBatch",
    "AnyRequest",
    "BatchLLMRequest",
    "BatchLLMResponse",
    "BatchOutline",
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
    "PlainRequest",
    "Role",
    "UniqueRequestIds",
    "WebhookState",
    "WebhookStatus",
    "WebhookUrl",
]
