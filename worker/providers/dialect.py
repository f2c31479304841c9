"""The interface of a dialect: pure functions between a chat request and a provider's JSON.

A dialect is one file beside this one and an entry in `dialects.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from shared.models import ChatRequest

MAX_TOKENS, MAX_USD = 2**31, 1e6  # a provider that reports more has made a mistake


def _valid_tokens(value: object) -> int | None:
    """Returns None for an invalid count: bad usage data must not discard a billed answer."""
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
    """A response with status 200 whose body reports an error.

    `status_code` is the HTTP status that the error corresponds to.
    """

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message


@dataclass(frozen=True, slots=True)
class Dialect:
    """`path` follows the base URL.

    `decode` reads the body of a 200 and raises ErrorInBody, or ValueError if it is no answer at
    all. `error_text` returns what the body of an error response says, or None.
    """

    path: str
    encode: Callable[[ChatRequest], Mapping[str, Any]]
    decode: Callable[[bytes], Completion]
    error_text: Callable[[bytes], str | None]
