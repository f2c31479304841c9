"""Defines the batches that a client sends, and the options of a job."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from shared.models.request_base import Inbound
from shared.models.requests import AnyRequest, LLMRequest, PlainRequest

MAX_BATCH_REQUESTS = 100
MAX_DEADLINE_S = 30 * 86_400
MAX_WEBHOOK_URL_LENGTH = 2048  # characters


def _webhook_url(url: str) -> str:
    """Returns the URL. Raises PydanticCustomError if its text is invalid.

    The host's address is checked later, when a worker connects to the host.
    """
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


class JobOptions(Inbound):
    """Holds the options of a job."""

    deadline_s: Annotated[float, Field(gt=0, le=MAX_DEADLINE_S)] | None = Field(
        default=None,
        description="Time limit of the job in seconds, from acceptance. Requests that have not"
        " finished by then fail with `deadline_exceeded`.",
    )
    webhook_url: WebhookUrl | None = Field(
        default=None,
        description="The URL that gets a signed POST when the job has ended (Standard Webhooks).",
    )


class BatchLLMRequest(JobOptions):
    """Holds a batch of 1 to 100 requests."""

    model_config = ConfigDict(json_schema_extra={"example": {"requests": _EXAMPLE_REQUESTS}})

    requests: Annotated[list[LLMRequest], Field(min_length=1, max_length=MAX_BATCH_REQUESTS)]

    @model_validator(mode="after")
    def _unique_ids(self) -> Self:
        UniqueRequestIds().add(*self.requests)
        return self


class AnyBatch(JobOptions):
    """Holds a batch, like BatchLLMRequest, and is validated faster.

    Clients never see its errors: a batch that is invalid is validated again as BatchLLMRequest.
    """

    requests: Annotated[list[AnyRequest], Field(min_length=1, max_length=MAX_BATCH_REQUESTS)]

    @model_validator(mode="after")
    def _unique_ids(self) -> Self:
        UniqueRequestIds().add(*self.requests)
        return self


class BatchOutline(JobOptions):
    """Holds a batch in which each request has been replaced by `null`."""

    requests: Annotated[list[None], Field(min_length=1, max_length=MAX_BATCH_REQUESTS)]


class UniqueRequestIds:
    """Finds requests of a batch that have the same request id."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._count = 0

    def add(self, *requests: PlainRequest | LLMRequest) -> None:
        """Adds the ids of requests. Raises PydanticCustomError if two requests have the same id.

        Requests of earlier calls count, too. Requests without an id are ignored.
        """
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
