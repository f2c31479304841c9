"""Reads the results of a job as they arrive."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from time import monotonic
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from orchestrator_client.connection import TIMEOUT_S, Connection
from orchestrator_client.errors import ConnectionFailed, InvalidResponse, ServiceUnavailable

MAX_BREAKS, SHORT_STREAM_S = 20, 10.0  # see `follow_lines`
SILENT_S = 5.0  # seconds without a result after which `on_silence` is called

T = TypeVar("T")


class ReadStalled(Exception):
    """Nothing arrived for TIMEOUT_S, although the API sends an empty line at least every 15 s."""


async def read_lines(
    response: httpx.Response, parse: Callable[[bytes], T]
) -> AsyncGenerator[list[T], None]:
    """Yields lists of parsed lines that arrived together. Raises ReadStalled and InvalidResponse.

    An empty list says that only empty lines arrived, which the API sends as a sign of life. Lines
    are split at line feeds only: httpx would also split them at other characters, such as U+2028,
    which an answer may contain. A last line that has no line feed is not yielded.
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


async def follow_lines(
    connection: Connection,
    path: str,
    query: Callable[[], dict[str, Any]],
    parse: Callable[[bytes], T],
    on_silence: Callable[[], Awaitable[None]],
) -> AsyncGenerator[list[T], None]:
    """Yields the parsed lines of a stream, in lists of lines that arrived together.

    If the connection breaks, connects again, with a new query. Raises ConnectionFailed if
    MAX_BREAKS streams in a row break within SHORT_STREAM_S and have no result. Raises
    ConnectionFailed or ServiceUnavailable if no stream can be opened within the retry time.

    If a stream is silent for TIMEOUT_S, opens a new stream, any number of times: a proxy may hold
    the results back until the job has ended. Calls `on_retry` only for the first silence, and again
    for the first silence after a result.

    query: function that returns the parameters of the query. Leaves out parameters that are None.
    on_silence: called at each sign of life of the API after SILENT_S without a result.
    """
    budget = connection.retry_budget()
    breaks = 0
    while True:
        opened_at: float | None = None
        params = {name: str(value) for name, value in query().items() if value is not None}
        try:
            async with (
                connection.stream(path, params) as response,
                aclosing(read_lines(response, parse)) as pages,
            ):
                opened_at = received_at = monotonic()
                budget.renew()
                async for page in pages:
                    budget.renew()
                    if page:
                        budget, breaks = connection.retry_budget(), 0
                        yield page
                        received_at = monotonic()
                    elif monotonic() - received_at >= SILENT_S:
                        await on_silence()
            return  # noqa: TRY300 — the stream has ended
        except ReadStalled:
            budget.report(_silent(connection.url))
        except (ConnectionFailed, ServiceUnavailable) as error:
            if opened_at is not None:
                breaks = breaks + 1 if monotonic() - opened_at < SHORT_STREAM_S else 0
            if breaks == MAX_BREAKS:
                raise _always_broken(connection.url, error) from error
            await budget.wait(error)


def _silent(url: str) -> str:
    return (
        f"The stream of results from {url} was silent for {TIMEOUT_S:.0f} s, although the API sends"
        " a sign of life every 15 s. Connecting again; a proxy before the API may hold the results"
        " back."
    )


def _always_broken(url: str, error: Exception) -> ConnectionFailed:
    return ConnectionFailed(
        f"The stream of results from {url} broke {MAX_BREAKS} times in a row before a result"
        f" arrived. The last error: {error} The job continues. Check the proxies before the API, or"
        " read the results without following the job.",
        url=url,
    )
