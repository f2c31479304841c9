"""Reads the results of a job as they arrive."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

import httpx
from pydantic import ValidationError

from orchestrator_client.errors import InvalidResponse

T = TypeVar("T")


class ReadStalled(Exception):
    """Nothing arrived within the timeout: no request finished, or the connection is broken."""


async def read_lines(
    response: httpx.Response, parse: Callable[[bytes], T]
) -> AsyncGenerator[list[T], None]:
    """Yields lists of parsed lines that arrived together. Raises ReadStalled and InvalidResponse.

    An empty list says that only empty lines arrived: the API shows that it is alive. Lines are
    split at line feeds only. httpx would split them also at other characters, such as U+2028, which
    an answer may contain.
    """
    rest = b""
    try:
        async with aclosing(response.aiter_bytes()) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                if lines:
                    yield [parse(line) for line in lines if line]
    except ValidationError:
        raise InvalidResponse(
            str(response.url.copy_with(query=None)), response.status_code
        ) from None
    except httpx.ReadTimeout:
        raise ReadStalled from None
