"""Defines the requests that a client sends, and their checks."""

from enum import StrEnum
from typing import Annotated, Self
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

from shared.models.integers import WholeNumber
from shared.providers import PROVIDERS

MAX_BATCH_REQUESTS = 100
MAX_MESSAGES = 10_000  # limit per request
MAX_DEADLINE_S = 30 * 86_400
MAX_WEBHOOK_URL_LENGTH = 2048  # characters


def _known_provider(name: str) -> str:
    if name not in PROVIDERS:
        known = " or ".join(f"'{known}'" for known in PROVIDERS)
        raise PydanticCustomError("provider", "Input must be {known}", {"known": known})
    return name


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "String must not be empty or whitespace only")
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
    """Returns the URL if its text is valid. Its address is checked when a worker connects to it."""
    try:
        parts = urlsplit(url)
        credentials = parts.username is not None or parts.password is not None
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable, credentials = False, False
    if not usable or " " in url or not (url.isascii() and url.isprintable()):
        raise PydanticCustomError("webhook_url", "URL must be http://… or https://…, in ASCII")
    if credentials:
        raise PydanticCustomError("webhook_url", "URL must not contain credentials")
    return url


WebhookUrl = Annotated[str, Field(max_length=MAX_WEBHOOK_URL_LENGTH), AfterValidator(_webhook_url)]


class _Inbound(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Message(_Inbound):
    role: Role
    content: Annotated[str, Field(min_length=1, max_length=50_000), NotBlank]


class LLMRequest(_Inbound):
    """One chat request for one model."""

    provider: ProviderName
    model: Annotated[
        str, StringConstraints(min_length=1, max_length=256, to_lower=True), NotBlank
    ] = Field(
        description="The name of the model. It is converted to lower case, for the provider and in"
        " the result."
    )
    # Validation stops at the first error, because a list of a million errors takes gigabytes.
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES), FailFast()]
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.7
    max_tokens: Annotated[int, Field(ge=1, le=32_000), WholeNumber] = 1000
    request_id: Annotated[str, Field(max_length=256)] | None = Field(
        default=None,
        description="Your id for the request. It must be unique within the job. The result"
        " contains it.",
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
        description="Number of seconds from acceptance. Requests that have not finished by then"
        " fail with `deadline_exceeded`.",
    )
    webhook_url: WebhookUrl | None = Field(
        default=None,
        description="The URL that gets a signed POST when the job has ended (Standard Webhooks).",
    )


class BatchLLMRequest(JobOptions):
    """A batch of 1 to 100 requests."""

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
                    "requests[{index}].request_id must differ from requests[{earlier}].request_id",
                    {"index": index, "earlier": earlier},
                )
        return self
