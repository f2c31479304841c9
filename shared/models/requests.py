"""Defines the requests that a client sends, and their checks."""

from enum import StrEnum
from typing import Annotated, Any, Generic, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from shared.models.integers import WholeNumber
from shared.providers import BUILT_IN, PROVIDERS, Catalogue
from shared.providers.routing import unknown_provider_message

MAX_BATCH_REQUESTS = 100
MAX_MESSAGES = 10_000  # limit per request
MAX_TEXT = 50_000  # limit of a text in a native request, in characters
MAX_NAME = 256  # limit of a model's name and of a request id, in characters
MAX_DEADLINE_S = 30 * 86_400
MAX_WEBHOOK_URL_LENGTH = 2048  # characters


def _known_provider(name: str, info: ValidationInfo) -> str:
    catalogue: Catalogue = (info.context or {}).get("catalogue", BUILT_IN)
    if name not in catalogue.rows:
        raise PydanticCustomError(
            "provider", "{message}", {"message": unknown_provider_message(catalogue, name)}
        )
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
    DEVELOPER = "developer"
    TOOL = "tool"


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


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), NotBlank]
JsonObject = dict[str, JsonValue]


_ABSENT: Any = object()  # default of a field that may be absent only in some cases


def _content(value: object, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
    """Validates the content of a message: text, parts, or nothing.

    A union of the three would repeat the errors of each alternative.
    """
    if isinstance(value, list):
        return _parts(value)
    if isinstance(value, str) and (not value or value.isspace()) and len(value) <= MAX_TEXT:
        # Models write white space before the calls of tools, and a tool may return nothing.
        if info.data.get("role") is Role.TOOL or _has_more(info.data):
            return value
    elif value is None or value is _ABSENT:
        if _has_more(info.data):
            return None
        if value is _ABSENT:
            raise PydanticKnownError("missing")
    return validate(value)


def _has_more(fields: dict[str, Any]) -> bool:
    """Returns whether a message is the assistant's and has something other than content."""
    return fields.get("role") is Role.ASSISTANT and any(map(fields.get, _INSTEAD_OF_CONTENT))


def _parts(parts: list[JsonValue]) -> list[JsonValue]:
    if not parts:
        raise PydanticCustomError("content_parts", "The list of parts must have at least one part")
    for number, part in enumerate(parts):
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            reason = "part {number} must be an object with a string `type`"
        elif isinstance(text, str) and len(text) > MAX_TEXT:
            reason = "the text of part {number} must have at most {limit} characters"
        else:
            continue
        raise PydanticCustomError("content_parts", reason, {"number": number, "limit": MAX_TEXT})
    return parts


class PlainMessage(_Inbound):
    """A message that has only a text."""

    role: Role
    content: Text


class Message(_Inbound):
    """A message of a chat.

    `content` is text, or a list of parts with a `type` each. A message of the assistant that has
    one of the fields in `_INSTEAD_OF_CONTENT` needs no content. A tool's result may be empty.
    """

    role: Role
    name: str | None = None
    tool_calls: list[JsonObject] | None = None
    tool_call_id: str | None = None
    function_call: JsonObject | None = None
    refusal: str | None = None
    audio: JsonObject | None = None
    annotations: list[JsonValue] | None = None
    reasoning: JsonValue = None
    reasoning_content: str | None = None
    reasoning_details: JsonValue = None
    thinking_blocks: list[JsonObject] | None = None
    content: Annotated[  # the last field, because its validation depends on others
        Text,
        WrapValidator(_content),
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_TEXT}),
    ] = Field(
        default_factory=lambda: _ABSENT,
        validate_default=True,
        description="The text, or a list of content parts as OpenAI defines them; `null`, empty or"
        " absent in an assistant's message that has `tool_calls`, `function_call`, `refusal` or"
        " `audio`. A message of a tool may be empty.",
    )


_INSTEAD_OF_CONTENT = ("tool_calls", "function_call", "refusal", "audio")


# Fields that the provider never gets. `extra_body` may have these, because OpenRouter has its own
# `provider` and `models`, and vLLM its own `request_id`.
_NOT_THE_PROVIDERS = {"provider", "request_id", "models"}
MAX_MODELS = 5


def _only_other_fields(extra_body: JsonObject) -> JsonObject:
    known = LLMRequest.model_fields.keys() & extra_body.keys() - _NOT_THE_PROVIDERS
    if known:
        raise PydanticCustomError(
            "extra_body",
            "extra_body must not contain `{name}`, which is a field of the request",
            {"name": min(known)},
        )
    return extra_body


ModelName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME), NotBlank]


AnyMessage = TypeVar("AnyMessage", PlainMessage, Message)


class NativeRequest(_Inbound, Generic[AnyMessage]):
    """The fields that the requests of a text batch have."""

    provider: ProviderName = Field(description="The name of the provider.")
    model: ModelName = Field(
        description="The name of the model. It is converted to lower case for providers that do"
        " not distinguish upper and lower case."
    )
    # Validation stops at the first error, because a list of a million errors takes gigabytes.
    messages: Annotated[list[AnyMessage], Field(min_length=1, max_length=MAX_MESSAGES), FailFast()]
    temperature: Annotated[
        Annotated[float, Field(ge=0.0, le=2.0)] | None,
        WithJsonSchema({"type": "number", "minimum": 0.0, "maximum": 2.0}),
    ] = Field(default=0.7, description="`null` sends no temperature.")
    max_tokens: Annotated[
        Annotated[int, Field(ge=1, le=32_000), WholeNumber] | None,
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 32_000}),
    ] = Field(default=1000, description="`null` sends no limit.")
    request_id: Annotated[str, Field(max_length=MAX_NAME)] | None = Field(
        default=None,
        description="Your id for the request. It must be unique within the job. The result"
        " contains it.",
    )


class PlainRequest(NativeRequest[PlainMessage]):
    """A request of a text batch. Lacks the rarer fields of LLMRequest: validating each takes time.

    Every such request is also a valid LLMRequest.
    """


class LLMRequest(NativeRequest[Message]):
    """One chat request for one model.

    `temperature` and `max_tokens` have defaults for the providers `openrouter` and `ollama`; for
    other providers, a field that is absent or `null` is not sent. The fields after `request_id` are
    the other fields of an OpenAI chat request, and are sent as they are.
    """

    max_completion_tokens: Annotated[int, Field(ge=1), WholeNumber] | None = None
    top_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2.0, le=2.0)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2.0, le=2.0)] | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, WholeNumber] | None = None
    n: Annotated[int, Field(ge=1), WholeNumber] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0), WholeNumber] | None = None
    logit_bias: dict[str, int | float] | None = None
    response_format: JsonObject | None = None
    tools: list[JsonObject] | None = None
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    functions: list[JsonObject] | None = None
    function_call: str | JsonObject | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[str] | None = None
    audio: JsonObject | None = None
    prediction: JsonObject | None = None
    web_search_options: JsonObject | None = None
    service_tier: str | None = None
    store: bool | None = None
    metadata: JsonObject | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    stream: bool | None = Field(default=None, description="Ignored: answers are not streamed.")
    stream_options: JsonObject | None = Field(default=None, description="Ignored, like `stream`.")
    models: list[ModelName] | None = Field(
        default=None,
        max_length=MAX_MODELS,
        description="What serves the request if `provider` and `model` cannot, in this order:"
        " `provider/model` or aliases.",
    )
    extra_body: Annotated[JsonObject, AfterValidator(_only_other_fields)] | None = Field(
        default=None,
        description="Fields for the provider that are not listed here, such as `top_k`.",
    )


AnyRequest = Annotated[PlainRequest | LLMRequest, Field(union_mode="left_to_right")]

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
        UniqueRequestIds().add(*self.requests)
        return self


class AnyBatch(JobOptions):
    """A batch that is validated faster than BatchLLMRequest. Clients never see its errors."""

    requests: Annotated[list[AnyRequest], Field(min_length=1, max_length=MAX_BATCH_REQUESTS)]

    @model_validator(mode="after")
    def _unique_ids(self) -> Self:
        UniqueRequestIds().add(*self.requests)
        return self


class BatchOutline(JobOptions):
    """A batch in which each request has been replaced by `null`."""

    requests: Annotated[list[None], Field(min_length=1, max_length=MAX_BATCH_REQUESTS)]


class UniqueRequestIds:
    """Finds requests of a batch that have the same request id."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._count = 0

    def add(self, *requests: PlainRequest | LLMRequest) -> None:
        """Adds the ids of requests. Raises PydanticCustomError if an earlier request has one."""
        for index, request in enumerate(requests, self._count):
            if request.request_id is None:
                continue
            earlier = self._first.setdefault(request.request_id, index)
            if earlier != index:
                raise PydanticCustomError(
                    "duplicate_request_id",
                    "requests[{index}].request_id must differ from requests[{earlier}].request_id",
                    {"index": index, "earlier": earlier},
                )
        self._count += len(requests)
