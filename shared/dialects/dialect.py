"""Defines the interface of a dialect.

A dialect is a set of pure functions that convert requests to a provider's JSON, and the provider's
JSON to answers. Each dialect has a module in this package and an entry in `dialects.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.dialects.stream import NewStreamReader


class Operation(StrEnum):
    """Names the kind of a request's body."""

    CHAT = "chat"  # OpenAI: POST /chat/completions
    RESPONSES = "responses"  # OpenAI: POST /responses
    EMBEDDINGS = "embeddings"  # OpenAI: POST /embeddings
    MESSAGES = "messages"  # Anthropic: POST /v1/messages
    GENERATE_CONTENT = "generate_content"  # Gemini: POST /models/{model}:generateContent


@dataclass(slots=True)  # not frozen: each call creates one, which would take three times as long
class Answer:
    """Holds the data that a worker reads from a provider's response. An invalid count is 0."""

    content: str  # text of the answer; "" if the answer has no text
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    finish_reason: str | None = None
    cost_usd: float | None = None  # None if the provider reports no valid price
    message: dict[str, Any] | None = None  # None if the message has only a role and a text
    choices: list[Any] | None = None  # None if there is only one choice
    logprobs: Any = None
    usage: dict[str, Any] | None = None  # as the provider gave it
    body: str | None = None  # JSON of the answer in one line; None for a native request


class ErrorInBody(Exception):
    """The response has status 200, but its JSON reports an error.

    `status_code` is the HTTP status that corresponds to the error. `error` is the JSON that reports
    the error: see `shared.dialects.refusal_reason`.
    """

    def __init__(self, status_code: int, error: object) -> None:
        super().__init__(status_code)
        self.status_code = status_code
        self.error = error


class Unfinished(Exception):
    """The response has status 200, but the answer was not finished.

    `evidence` says how this is known: it quotes a field of the JSON, such as
    `finish_reason: error`, or says that the stream ended early.
    """

    def __init__(self, evidence: str) -> None:
        super().__init__(evidence)
        self.evidence = evidence


class NoAnswer(Exception):
    """The response has status 200, and its JSON is complete but contains no answer."""


class Untranslatable(ValueError):
    """A field of a chat request cannot be translated without changing its meaning.

    `field` is the field's path, such as `messages[0].content[1]`. `reason` says why, and what the
    provider would take.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Codec:
    """Describes one kind of call.

    path: appended to the provider's base URL; `{model}` stands for the result of `model_path`.
    decode: returns the answer from the parsed JSON of a response with status 200, after `to_chat`
        if there is one. Raises ErrorInBody, Unfinished and NoAnswer.
    translate: returns the body of the call, from the model's name and the fields of an OpenAI chat
        request without `model`. Raises Untranslatable. None if the body is sent as it is.
    to_chat: returns the OpenAI chat completion that has the same meaning as the parsed JSON of a
        response with status 200. Raises ErrorInBody, Unfinished and NoAnswer. None if the response
        needs no conversion.
    model_path: returns the part of the path that names the model. None if the path names no model.
    auth: the authentication of this kind of call, which replaces the provider's: see
        `shared.providers.provider_row.Provider.auth`. None if this kind of call has none.
    takes_plain: whether `translate` takes every request that has only texts, a temperature and a
        token limit, so that such a request needs no check.
    stream: creates a reader of a streamed answer. None if this kind of call is never streamed.
    stream_usage: whether a stream contains the usage only if `stream_options` asks for the usage.
    """

    path: str
    decode: Callable[[Any], Answer]
    translate: Callable[[str, Mapping[str, Any]], dict[str, Any]] | None = None
    to_chat: Callable[[Any], dict[str, Any]] | None = None
    model_path: Callable[[str], str] | None = None
    auth: str | None = None
    takes_plain: bool = False
    stream: NewStreamReader | None = None
    stream_usage: bool = False

    def read(self, reply: Any) -> tuple[Answer, Any]:  # noqa: ANN401 — JSON
        """Returns the answer in the parsed JSON of a response with status 200.

        The second value is the JSON after `to_chat`, if there is such a function. Raises
        ErrorInBody, Unfinished and NoAnswer.
        """
        if self.to_chat is not None:
            reply = self.to_chat(reply)
        return self.decode(reply), reply


@dataclass(frozen=True, slots=True)
class Dialect:
    """Describes how to call the providers of one dialect.

    native: the codec of native requests, which have the fields of an OpenAI chat request.
    foreign: the codecs of foreign bodies, by `Operation`. A missing operation is not supported.
    models_path: path of the GET that lists the provider's models, appended to the base URL.
    """

    native: Codec
    foreign: Mapping[str, Codec]
    models_path: str = "/models"
