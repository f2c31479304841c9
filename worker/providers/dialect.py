"""Defines the interface of a dialect.

A dialect is a set of pure functions that convert a chat request to a provider's JSON, and the
provider's JSON to a completion. Each dialect has a module in this package and an entry in
`dialects.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from shared.models import ChatRequest

MAX_TOKENS, MAX_USD = 2**31, 1e6  # limits; larger values are mistakes of the provider


def _valid_tokens(value: object) -> int | None:
    """Returns the count, or None if it is invalid.

    Invalid usage data must not cause an error, because the answer has been paid for.
    """
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def _valid_usd(value: object) -> float | None:
    is_valid = type(value) in {int, float} and 0 <= value <= MAX_USD  # type: ignore[operator]
    return value if is_valid else None  # type: ignore[return-value]


Tokens = Annotated[int | None, BeforeValidator(_valid_tokens)]
Usd = Annotated[float | None, BeforeValidator(_valid_usd)]


@dataclass(frozen=True, slots=True)
class Completion:
    content: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    finish_reason: str | None
    cost_usd: float | None = None  # None if the provider does not report it


class ErrorInBody(Exception):
    """The response has status 200, but its body reports an error.

    `status_code` is the HTTP status that corresponds to the error.
    """

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message


@dataclass(frozen=True, slots=True)
class Dialect:
    """Describes how to call the providers of one dialect.

    path: appended to the provider's base URL.
    encode: returns the JSON body of a call.
    decode: returns the completion from the body of a response with status 200. Raises ErrorInBody
        if the body reports an error, and ValueError if the body is not a completion.
    error_text: returns the error message from the body of an error response, or None.
    """

    path: str
    encode: Callable[[ChatRequest], Mapping[str, Any]]
    decode: Callable[[bytes], Completion]
    error_text: Callable[[bytes], str | None]
