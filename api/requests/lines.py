"""Splits a body into lines, or into JSON objects that each have several lines."""

import re
from collections.abc import AsyncIterator

from fastapi.exceptions import RequestValidationError

from api.errors import validation_error

# A string, which may be cut off at the end of the line, or a bracket. The repetitions are
# possessive, so that the time grows with the length of a line and not with its square.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)


def line_error(number: int, message: str, *path: str | int) -> RequestValidationError:
    """Returns the error of a line, or of the field in the line to which `path` leads."""
    return validation_error(message, "body", "line", number, *path)


async def request_lines(
    chunks: AsyncIterator[bytes], max_line_bytes: int
) -> AsyncIterator[tuple[int, bytes]]:
    """Yields the number and the content of each line that is not empty. Numbers begin at 1.

    If the first line begins a JSON object that ends in a later line, the body has pretty-printed
    objects. Then yields each object with the number of its first line. Raises
    RequestValidationError if a line or an object is longer than `max_line_bytes`.
    """
    pending, first, depth = list[bytes](), 0, 0
    size, is_pretty = 0, None
    async for number, line in _lines(chunks, max_line_bytes):
        if is_pretty is None:
            is_pretty = _depth(line) > 0
        if not is_pretty:
            yield number, line
            continue
        first = first if pending else number
        depth += _depth(line)
        size += len(line) + 1
        pending.append(line)
        if size > max_line_bytes:
            raise _too_long(first, max_line_bytes)
        if depth <= 0:
            yield first, b"\n".join(pending)
            pending, depth, size = [], 0, 0
    if pending:
        raise line_error(first, "the JSON object that begins in this line has no end")


def _depth(line: bytes) -> int:
    """Returns how many objects and arrays the line begins and does not end.

    A string never spans lines, because JSON has no line breaks in strings.
    """
    return sum(
        (token in b"{[") - (token in b"}]") for token in _TOKEN.findall(line) if len(token) == 1
    )


async def _lines(
    chunks: AsyncIterator[bytes], max_line_bytes: int
) -> AsyncIterator[tuple[int, bytes]]:
    number, parts, size = 1, list[bytes](), 0
    async for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*parts, end)) if parts else end
            if len(line) > max_line_bytes:
                raise _too_long(number, max_line_bytes)
            if line.strip():
                yield number, line
            number, parts, size = number + 1, [], 0
        parts.append(rest)
        size += len(rest)
        if size > max_line_bytes:
            raise _too_long(number, max_line_bytes)
    line = b"".join(parts)
    if line.strip():
        yield number, line


def _too_long(number: int, max_line_bytes: int) -> RequestValidationError:
    return line_error(number, f"the line is longer than {max_line_bytes} bytes (MAX_LINE_BYTES)")
