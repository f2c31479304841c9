"""Defines the result of one request."""

from datetime import datetime
from typing import Annotated, Any

import orjson
from pydantic import Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from shared.models.error_codes import ErrorCode
from shared.models.response_base import Outbound

# Text of a JSON object that is inserted into a response as it is, because Python's numbers have
# fewer digits than JSON's.
JsonText = Annotated[str | None, WithJsonSchema({"type": ["object", "null"]})]


class LLMResponse(Outbound):
    """Holds the result of one request: an answer, or an error."""

    request_id: str | None
    provider: str
    model: str
    content: str = Field(
        description="The text of the answer; empty if the answer has no text, or if the request has"
        " an error."
    )
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
    attempts: int = Field(
        description="The number of provider calls for this request. 0 if the job ended before the"
        " request had finished, even if calls had been made."
    )
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
        " that gave this result. If no call gave the result: the time until the request failed,"
        " or 0."
    )
    retried_ms: float = Field(
        description="The part of `queued_ms` after the start of the first provider call."
    )
    # The following fields are in the JSON only if they have a value.
    message: dict[str, Any] | None = Field(
        default=None,
        exclude=True,
        description="The provider's message, if it has more than a text, for example `tool_calls`,"
        " `refusal` or `reasoning`.",
    )
    choices: list[Any] | None = Field(
        default=None, exclude=True, description="All choices of the answer, if there are several."
    )
    logprobs: Any = Field(
        default=None, exclude=True, description="The log probabilities of the answer's tokens."
    )
    usage: dict[str, Any] | None = Field(
        default=None,
        exclude=True,
        description="The usage as the provider reports it, if it has more than the three counts"
        " above and the price.",
    )
    body: JsonText = Field(
        default=None,
        exclude=True,
        description="The body of the provider's response, unchanged, if the request was in the"
        " format of a provider's API, and not in the format of `POST /batch`.",
    )
    metadata: JsonText = Field(
        default=None,
        exclude=True,
        description="The `metadata` that the client sent with a request that was not in the native"
        " format.",
    )
    route: list[dict[str, Any]] | None = Field(
        default=None,
        exclude=True,
        description="The providers and models that were tried before the request moved on to this"
        " provider and model, each with `model`, `error_code` and `attempts`.",
    )
    status_code: SkipJsonSchema[int | None] = Field(default=None, exclude=True)
    refusal: SkipJsonSchema[dict[str, Any] | None] = Field(default=None, exclude=True)

    def to_json(self) -> str:
        """Returns the response as JSON, in which `body` and `metadata` keep every digit.

        The fields in `OPTIONAL_FIELDS` are left out if they are None.
        """
        fields = {name: value for name, value in self.__dict__.items() if name not in _NOT_SHOWN}
        for name in OPTIONAL_FIELDS:
            if fields[name] is None:
                del fields[name]
        return dump_response(fields).decode()


OPTIONAL_FIELDS = ("message", "choices", "logprobs", "usage", "body", "metadata", "route")
_RAW = {"body", "metadata"}
_NOT_SHOWN = {"status_code", "refusal"}


def dump_response(fields: dict[str, Any]) -> bytes:
    """Returns the fields of a response as JSON.

    `body` and `metadata`, if they are in `fields`, are texts of JSON. The function changes
    `fields`.
    """
    for name in _RAW & fields.keys():
        fields[name] = orjson.Fragment(fields[name])
    return orjson.dumps(fields, option=orjson.OPT_UTC_Z)


class JobItem(LLMResponse):
    """Holds one line of a stream of results."""

    index: int = Field(description="The position of the request in the job, from 0.")
    cursor: int = Field(
        description="The value of `after` that continues the stream after this line."
    )
