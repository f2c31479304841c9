"""Defines the limits of an answer's size, and of the memory that all answers take while they are
read.

The limit of a body is the setting MAX_ANSWER_BYTES: see response_body.py. The limit of a stream is
MAX_STREAM_BYTES: see stream_body.py.
"""

import asyncio

import httpx

from shared.memory_budget import Reservation
from shared.models import ErrorCode
from shared.queue.verdict import Verdict
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError

MAX_STREAM_BYTES = 32 * 1024 * 1024  # a token's event is about 50 times as large as its text
# Limit of an answer's objects and lists; each takes up to 400 bytes. An answer with more `{` and
# `[`, even in strings, may have at most json_scanner.MAX_PARTS fields and elements.
MAX_BRACKETS = 400_000
# Bytes of memory that a byte of a large answer takes while the answer is read and decoded. The
# fields take further memory, but only one answer is decoded at a time.
READ_COST = 4


async def reserve(memory: Reservation, limit: asyncio.Timeout, size: int) -> None:
    """Waits until `size` bytes are free, and reserves them in place of the call's reserved bytes.

    The wait is not part of the call's time limit. Reserves nothing if the time limit has passed.
    """
    if limit.expired():  # the next await of the caller is cancelled
        return
    loop, until = asyncio.get_running_loop(), limit.when()
    started = loop.time()
    limit.reschedule(None)
    await memory.replace(size)
    limit.reschedule(None if until is None else until + loop.time() - started)


def too_large(response: httpx.Response, endpoint: Endpoint) -> ProviderError:
    return _refusal(
        response,
        f"{endpoint.provider} sent more than {endpoint.max_answer_bytes} bytes (MAX_ANSWER_BYTES)",
    )


def stream_too_large(response: httpx.Response, endpoint: Endpoint) -> ProviderError:
    return _refusal(
        response, f"{endpoint.provider} sent a stream of more than {MAX_STREAM_BYTES} bytes"
    )


def too_many_parts(response: httpx.Response, endpoint: Endpoint) -> ProviderError:
    return _refusal(
        response,
        f"{endpoint.provider} sent JSON with more than {MAX_BRACKETS} objects and lists",
    )


def _refusal(response: httpx.Response, message: str) -> ProviderError:
    """Returns the error for a body beyond a limit.

    A call whose answer is too large is not repeated, because each answer has to be paid for. A call
    whose error response is too large is repeated.
    """
    return ProviderError(
        Verdict.REJECTED if response.is_success else Verdict.TRANSIENT,
        ErrorCode.ANSWER_TOO_LARGE if response.is_success else ErrorCode.BAD_RESPONSE,
        message,
        status_code=response.status_code,
    )
