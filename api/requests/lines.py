"""Splits a body into lines, or into JSON objects that may each have several lines."""

import asyncio
from collections.abc import AsyncIterator

from fastapi.exceptions import RequestValidationError

from api.errors.validation_error import validation_error
from api.requests.decompression import PIECE_BYTES
from shared.json_scanner import MAX_PARTS, Scanner, TooManyParts, check_parts, scan


def line_error(number: int, message: str, *path: str | int) -> RequestValidationError:
    """Returns the error of a line, or of the field in the line to which `path` leads."""
    return validation_error(message, "body", "line", number, *path)


async def request_lines(
    chunks: AsyncIterator[bytes], max_line_bytes: int
) -> AsyncIterator[tuple[int, bytes]]:
    """Yields the number and the content of each line that is not blank. Numbers begin at 1.

    If the first line begins a JSON object that ends in a later line, the body has pretty-printed
    objects. Then yields each object with the number of its first line. Raises
    RequestValidationError if a line or an object is longer than `max_line_bytes` or has more than
    `MAX_PARTS` fields and elements, or if the last object has no end.
    """
    pending, first, depth, parts = list[bytes](), 0, 0, 0
    size, is_pretty = 0, None
    async for number, line in _lines(chunks, max_line_bytes):
        if is_pretty is False:
            await _check_parts(number, line)
            yield number, line
            continue
        scanned = await _scan(number, line)
        if is_pretty is None:
            is_pretty = scanned.depth > 0
            if not is_pretty:
                yield number, line
                continue
        first = first if pending else number
        depth += scanned.depth
        parts += scanned.parts
        size += len(line) + 1
        pending.append(line)
        if parts > MAX_PARTS:
            raise _too_many_parts(first)
        if size > max_line_bytes:
            raise _too_long(first, max_line_bytes)
        if depth <= 0:
            yield first, b"\n".join(pending)
            pending, depth, parts, size = [], 0, 0, 0
    if pending:
        raise line_error(first, "the JSON object that begins in this line has no end")


async def _check_parts(number: int, line: bytes) -> None:
    try:
        await check_parts(line)
    except TooManyParts:
        raise _too_many_parts(number) from None


async def _scan(number: int, line: bytes) -> Scanner:
    """Counts the fields and elements of a line, and the brackets that it leaves open.

    A string never spans lines, because JSON has no line breaks in strings.
    """
    try:
        return await scan(line)
    except TooManyParts:
        raise _too_many_parts(number) from None


async def _lines(
    chunks: AsyncIterator[bytes], max_line_bytes: int
) -> AsyncIterator[tuple[int, bytes]]:
    number, parts, size, unpaused = 1, list[bytes](), 0, 0
    async for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*parts, end)) if parts else end
            if len(line) > max_line_bytes:
                raise _too_long(number, max_line_bytes)
            if line.strip():
                yield number, line
            number, parts, size = number + 1, [], 0
            unpaused += len(line)
            if unpaused > PIECE_BYTES:  # lets other requests run, because a chunk may be large
                await asyncio.sleep(0)
                unpaused = 0
        parts.append(rest)
        size += len(rest)
        if size > max_line_bytes:
            raise _too_long(number, max_line_bytes)
    line = b"".join(parts)
    if line.strip():
        yield number, line


def _too_many_parts(number: int) -> RequestValidationError:
    return line_error(number, f"the line has more than {MAX_PARTS} fields and elements")


def _too_long(number: int, max_line_bytes: int) -> RequestValidationError:
    return line_error(number, f"the line is longer than {max_line_bytes} bytes (MAX_LINE_BYTES)")
