"""What goes over HTTP: the batch, its answers and the state of a job."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, NotRequired, Self, TypedDict
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.providers import PROVIDERS

MAX_BATCH_REQUESTS = 100
MAX_MESSAGES = 10_000  # of a request
MAX_DEADLINE_S = 30 * 86_400
MAX_WEBHOOK_URL = 2048  # characters


def _known_provider(name: str) -> str:
    if name not in PROVIDERS:
        known = " or ".join(f"'{known}'" for known in PROVIDERS)
        raise PydanticCustomError("provider", "Input should be {known}", {"known": known})
    return name


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "String should not be empty or whitespace only")
    return text


ProviderName = Annotated[
    str,
    AfterValidator(_known_provider),
    WithJsonSchema({"type": "string", "enum": list(PROVIDERS)}),
]
NotBlank = AfterValidator(_not_blank)


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


def _webhook_url(url: str) -> str:
    """Its address is checked when it is connected to; here only what can be seen at once."""
    try:
        parts = urlsplit(url)
        credentials = parts.username is not None or parts.password is not None
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable, credentials = False, False
    if not usable or " " in url or not (url.isascii() and url.isprintable()):
        raise PydanticCustomError("webhook_url", "URL should be http://… or https://…, in ASCII")
    if credentials:
        raise PydanticCustomError("webhook_url", "URL should have no credentials")
    return url


WebhookUrl = Annotated[str, Field(max_length=MAX_WEBHOOK_URL), AfterValidator(_webhook_url)]


class _Inbound(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Message(_Inbound):
    role: Role
    content: Annotated[str, Field(min_length=1, max_length=50_000), NotBlank]


class LLMRequest(_Inbound):
    provider: ProviderName
    model: Annotated[
        str, StringConstraints(min_length=1, max_length=256, to_lower=True), NotBlank
    ] = Field(description="Case-insensitive: sent and answered in lower case.")
    # At the first mistake: a list of a million mistakes would take gigabytes.
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES), FailFast()]
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.7
    max_tokens: Annotated[int, Field(ge=1, le=32_000)] = 1000
    request_id: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="Unique within the batch."
    )


_EXAMPLE_REQUESTS: list[JsonValue] = [
    {
        "request_id": "req-1",
        "provider": "openrouter",
        "model": "google/gemma-3-27b-it:free",
        "messages": [{"role": "user", "content": "Tell me a short story about a cat."}],
        "temperature": 0.5,
        "max_tokens": 150,
    },
    {
        "request_id": "req-2",
        "provider": "ollama",
        "model": "deepseek-r1:8b",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {
                "role": "user",
                "content": "Explain the concept of quantum entanglement in simple terms.",
            },
        ],
        "temperature": 0.7,
        "max_tokens": 200,
    },
]


class JobOptions(_Inbound):
    deadline_s: Annotated[float, Field(gt=0, le=MAX_DEADLINE_S)] | None = Field(
        default=None,
        description="What has not ended so many seconds after acceptance ends as"
        " `deadline_exceeded`.",
    )
    webhook_url: WebhookUrl | None = Field(
        default=None,
        description="Told by a signed POST when the job has ended (Standard Webhooks).",
    )


class BatchLLMRequest(JobOptions):
    model_config = ConfigDict(json_schema_extra={"example": {"requests": _EXAMPLE_REQUESTS}})

    requests: Annotated[list[LLMRequest], Field(min_length=1, max_length=MAX_BATCH_REQUESTS)]

    @model_validator(mode="after")
    def _unique_ids(self) -> Self:
        first: dict[str, int] = {}
        for index, request in enumerate(self.requests):
            if request.request_id is None:
                continue
            earlier = first.setdefault(request.request_id, index)
            if earlier != index:
                raise PydanticCustomError(
                    "duplicate_request_id",
                    "requests[{index}].request_id is the same as that of requests[{earlier}]",
                    {"index": index, "earlier": earlier},
                )
        return self


class ChatRequest(TypedDict):
    """One item as it waits in the queue. Fields may be added, never renamed: workers of two
    versions read them during an upgrade."""

    provider: str
    model: str
    messages: Sequence[dict[str, str]]
    temperature: float
    max_tokens: int
    traceparent: NotRequired[str]  # W3C Trace Context


class ErrorCode(StrEnum):
    """Why an item has no answer; the set only ever grows."""

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


class _Outbound(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)  # it may be an answer


class LLMResponse(_Outbound):
    request_id: str | None
    provider: str
    model: str
    content: str = Field(description="Empty if an error occurred.")
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    latency_ms: float = Field(description="The provider call that gave this answer.")
    timestamp: datetime = Field(description="UTC.")
    error: str | None
    error_code: ErrorCode | None
    attempts: int = Field(description="Calls made to the provider for this answer.")
    finish_reason: str | None = Field(description="As the provider says it: `stop`, `length`, …")
    cost_usd: float | None = Field(
        description="What the provider says it has charged; `null`: it does not say."
    )
    queued_ms: float = Field(description="From acceptance to the start of that call.")
    retried_ms: float = Field(description="Of `queued_ms`, since the start of the first attempt.")


class JobItem(LLMResponse):
    """One line of a stream."""

    index: int = Field(description="Of the request in the job, from 0.")
    cursor: int = Field(description="`after` this, the stream goes on with the next line.")


class BatchLLMResponse(_Outbound):
    job_id: str
    responses: list[LLMResponse] = Field(description="In the order of the requests.")
    total_requests: int
    successful: int
    failed: int
    total_latency_ms: float = Field(description="From acceptance to the last result.")
    average_latency_ms: float = Field(description="Mean of the items' `latency_ms`.")


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline_exceeded"


class WebhookState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class WebhookStatus(_Outbound):
    url: str
    status: WebhookState
    attempts: int = Field(description="That have ended.")
    error: str | None


class JobSummary(_Outbound):
    """What a job is and how far it has come."""

    job_id: str
    owner: str = Field(description="Whose key has made it; empty where no keys are set.")
    status: JobStatus
    total_requests: int
    providers: dict[str, int] = Field(description="Requests by provider.")
    queued: int
    running: int
    successful: int
    failed: int = Field(description="With an error of any code, `cancelled` included.")
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    retry_of: str | None = Field(description="The job whose failed items these were.")
    retried_as: str | None = Field(description="The job that its failed items have become.")
    webhook: WebhookStatus | None
    total_latency_ms: float | None
    average_latency_ms: float | None


class Job(JobSummary):
    """A `BatchLLMResponse` in the making: the same fields, `null` where nothing is known yet."""

    responses: list[LLMResponse | None] | None = Field(
        description="In the order of the requests; `null` for an item that has not ended. `null`"
        " for a job of more than 100: see `/jobs/{id}/results`."
    )


class JobList(_Outbound):
    """Newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="For the next page; `null`: this is the last.")


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ready", "not_ready"]
    redis: Literal["ok", "unreachable"]
    workers: int | None = Field(
        description="The number of workers that are alive; `null` while Redis is unreachable."
    )
    version: str = Field(description="The version of this API process.")


class Refusal(BaseModel):
    """The body of every refusal but 422."""

    detail: str
