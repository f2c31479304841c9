"""What a provider's HTTP interface is made of: pure functions, one file a dialect."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from shared.models import ChatRequest

MOST_TOKENS, MOST_USD = 2**31, 1e6  # more is a mistake


def _tokens(value: object) -> int | None:
    """None for what is none: an answer that was paid for is not lost over what it counts."""
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def _usd(value: object) -> float | None:
    known = type(value) in {int, float} and 0 <= value <= MOST_USD  # type: ignore[operator]
    return value if known else None  # type: ignore[return-value]


Tokens = Annotated[int | None, BeforeValidator(_tokens)]
Usd = Annotated[float | None, BeforeValidator(_usd)]


@dataclass(frozen=True, slots=True)
class Completion:
    content: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    finish_reason: str | None
    cost_usd: float | None = None  # None: the provider does not say


class ErrorInBody(Exception):
    """A 200 whose body says that it failed, with the status it means."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message


@dataclass(frozen=True, slots=True)
class Dialect:
    path: str
    headers: Callable[[str | None, str], dict[str, str]]  # key, referer
    encode: Callable[[ChatRequest], Mapping[str, Any]]
    decode: Callable[[bytes], Completion]  # raises ErrorInBody, ValueError
    error_text: Callable[[bytes], str | None]
