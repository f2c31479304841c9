"""Reads the whole body of a response that is not streamed, and parses bodies."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from shared.dialects.json_text import read_json
from shared.event_loop_yield import LARGE_BYTES, pause
from shared.json_scanner import TooManyParts, scan
from shared.memory_budget import Reservation
from shared.models import ErrorCode
from shared.queue.verdict import Verdict
from worker.providers.answer_limits import MAX_BRACKETS, READ_COST, reserve, too_large
from worker.providers.decompression import body_pieces
from worker.providers.endpoint import Endpoint
from worker.providers.errors import ProviderError

_MAX_REPAIRED = 400_000  # limit of a repaired text's quotes and backslashes; each takes about 1 µs

ParsedBody = tuple[Any, bytes] | ValueError  # the JSON and its text, or the parser's error


@dataclass(frozen=True, slots=True)
class BodyReading:
    """Holds the memory and the time limit of the call that reads a body."""

    memory: Reservation
    limit: asyncio.Timeout


async def read_body(endpoint: Endpoint, response: httpx.Response, reading: BodyReading) -> bytes:
    """Returns the body, decompressed. Reserves memory for a large body, and waits for the memory.

    Raises ProviderError if the body is too large or cannot be decompressed.
    """
    provider, body, is_large = endpoint.provider, bytearray(), False
    try:
        async for piece in body_pieces(response):
            body += piece
            if len(body) > endpoint.max_answer_bytes:
                body.clear()  # the error's traceback would keep the body
                raise too_large(response, endpoint)
            if len(body) > LARGE_BYTES and not is_large:
                is_large = True
                size = READ_COST * _size(response, endpoint.max_answer_bytes)
                await reserve(reading.memory, reading.limit, size)
    except httpx.DecodingError:
        raise bad_response(response, f"{provider} sent a body that cannot be decoded") from None
    return bytes(body)


def _size(response: httpx.Response, at_most: int) -> int:
    """Returns an upper limit of the size of the decompressed body, at most `at_most`."""
    length = response.headers.get("content-length", "")
    is_known = length.isdecimal() and "content-encoding" not in response.headers
    return min(int(length), at_most) if is_known else at_most


def parse(body: bytes) -> ParsedBody:
    try:
        return read_json(body)
    except ValueError as error:
        return error


async def parse_large(body: bytes) -> ParsedBody:
    """Parses a large body. Returns the parser's error if the body is not JSON.

    Invalid JSON is repaired, as in `parse`, unless it has more than _MAX_REPAIRED quotes and
    backslashes. The repair runs in a thread, so that leases are renewed meanwhile. Raises
    TooManyParts.
    """
    await pause()  # the previous answer may have been large, too
    try:
        if body.count(b"{") + body.count(b"[") > MAX_BRACKETS:
            await scan(body)  # does not count brackets in strings
        try:
            return orjson.loads(body), body
        except orjson.JSONDecodeError as error:
            if body.count(b'"') + body.count(b"\\") > _MAX_REPAIRED:
                return error
            return await asyncio.to_thread(read_json, body)
    except TooManyParts:
        raise
    except ValueError as error:
        return error


def refuse_encodings(provider: str, response: httpx.Response) -> None:
    """Raises ProviderError if the body is encoded more than once.

    When such a body is decoded, a chunk could become a million times as large.
    """
    if "," in response.headers.get("content-encoding", ""):
        raise bad_response(response, f"{provider} sent a body that is encoded more than once")


def bad_response(response: httpx.Response, message: str) -> ProviderError:
    verdict = Verdict.UNFINISHED if response.is_success else Verdict.TRANSIENT
    return ProviderError(verdict, ErrorCode.BAD_RESPONSE, message, status_code=response.status_code)
