"""Defines native requests: one chat request for one model."""

from typing import Annotated, Generic, TypeVar

from pydantic import (
    AfterValidator,
    FailFast,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from shared.models.integers import WholeNumber
from shared.models.messages import MAX_MESSAGES, Message, PlainMessage
from shared.models.request_base import Inbound, JsonObject, NotBlank
from shared.providers import BUILT_IN, PROVIDERS, Catalogue
from shared.providers.routing import unknown_provider_message

MAX_NAME = 256  # limit of a model's name and of a request id, in characters


def _known_provider(name: str, info: ValidationInfo) -> str:
    catalogue: Catalogue = (info.context or {}).get("catalogue", BUILT_IN)
    if name not in catalogue.rows:
        raise PydanticCustomError(
            "provider", "{message}", {"message": unknown_provider_message(catalogue, name)}
        )
    return name


ProviderName = Annotated[
    str,
    AfterValidator(_known_provider),
    WithJsonSchema({"type": "string", "enum": list(PROVIDERS)}),
]


# Fields that the provider never gets. `extra_body` may have these, because OpenRouter has its own
# `provider` and `models`, and vLLM its own `request_id`.
_NOT_THE_PROVIDERS = {"provider", "request_id", "models"}
MAX_FALLBACK_MODELS = 5


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


class NativeRequest(Inbound, Generic[AnyMessage]):
    """Defines the fields that PlainRequest and LLMRequest have in common."""

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
    ] = Field(
        default=0.7,
        description="Default for `openrouter` and `ollama`: 0.7; for other providers: `null`, which"
        " sends no temperature.",
    )
    max_tokens: Annotated[
        Annotated[int, Field(ge=1, le=32_000), WholeNumber] | None,
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 32_000}),
    ] = Field(
        default=1000,
        description="Default for `openrouter` and `ollama`: 1000; for other providers: `null`,"
        " which sends no limit.",
    )
    request_id: Annotated[str, Field(max_length=MAX_NAME)] | None = Field(
        default=None,
        description="Your id for the request. It must be unique within the job. The result"
        " contains it.",
    )


class PlainRequest(NativeRequest[PlainMessage]):
    """Holds a request whose messages have only texts, without the rarer fields of LLMRequest.

    It is validated faster than LLMRequest. Every PlainRequest is also a valid LLMRequest.
    """


class LLMRequest(NativeRequest[Message]):
    """Holds one chat request for one model.

    `temperature` and `max_tokens` have defaults for the providers `openrouter` and `ollama`; for
    other providers, a field that is absent or `null` is not sent. The fields between `request_id`
    and `stream` are other fields of an OpenAI chat request, and are sent as they are.
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
        max_length=MAX_FALLBACK_MODELS,
        description="Up to five fallbacks, `provider/model` or aliases, that serve the request if"
        " `provider` and `model` cannot, in this order.",
    )
    extra_body: Annotated[JsonObject, AfterValidator(_only_other_fields)] | None = Field(
        default=None,
        description="Fields for the provider that are not listed here, such as `top_k`.",
    )


AnyRequest = Annotated[PlainRequest | LLMRequest, Field(union_mode="left_to_right")]
