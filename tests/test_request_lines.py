from collections.abc import AsyncIterator

import pytest
from fastapi.exceptions import RequestValidationError

from api.requests.lines import request_lines
from shared.json_scanner import MAX_PARTS

LIMIT = 100


async def split(body: bytes, size: int) -> list[tuple[int, bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return [line async for line in request_lines(chunks(), LIMIT)]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1}\n\n{"b":2}', [(1, b'{"a":1}'), (3, b'{"b":2}')]),
        (b'{"a":1}\r\n{"b":2}\r\n', [(1, b'{"a":1}\r'), (2, b'{"b":2}\r')]),
        (b'\n{\n "a": {\n}}\n{\n"b":2}\n', [(2, b'{\n "a": {\n}}'), (5, b'{\n"b":2}')]),
        (b'{"a": "{\\"[",\n"b": 1}\n', [(1, b'{"a": "{\\"[",\n"b": 1}')]),
        (b'{"a":1}\n{"b":\n', [(1, b'{"a":1}'), (2, b'{"b":')]),
        (b"", []),
    ],
)
async def test_lines(body: bytes, size: int, expected: list[tuple[int, bytes]]) -> None:
    assert await split(body, size) == expected


async def test_a_line_with_many_quotes_is_read_once() -> None:
    """A string without an end must not be searched again from each of its quotes: it has 8 MB."""
    line = b'{"a": "' + b'\\"' * 4_000_000

    async def chunks() -> AsyncIterator[bytes]:
        yield line

    with pytest.raises(RequestValidationError) as caught:
        _ = [line async for line in request_lines(chunks(), 2 * len(line))]

    assert "has no end" in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        (b'{"a":1}\n"' + b"x" * LIMIT + b'"', 2, "longer than 100 bytes (MAX_LINE_BYTES)"),
        (b'\n{\n"a":\n' + b'"b",\n' * 30, 2, "longer than 100 bytes (MAX_LINE_BYTES)"),
        (b'{\n"a": 1\n', 1, "the JSON object that begins in this line has no end"),
    ],
)
async def test_refuses(body: bytes, line: int, message: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        await split(body, 7)

    [error] = caught.value.errors()
    assert error["loc"] == ("body", "line", line)
    assert message in error["msg"]


async def objects_of(fields: int) -> list[tuple[int, bytes]]:
    """Splits a body of two objects over several lines that each have this number of elements."""
    body = b'{"a":[\n' + b"1,\n" * (fields - 2) + b"1]}\n"

    async def chunks() -> AsyncIterator[bytes]:
        yield body * 2

    return [line async for line in request_lines(chunks(), len(body))]


async def test_the_fields_of_an_object_over_several_lines_are_counted() -> None:
    assert [number for number, _ in await objects_of(MAX_PARTS)] == [1, MAX_PARTS + 1]
    with pytest.raises(RequestValidationError) as caught:
        await objects_of(MAX_PARTS + 1)
    assert f"more than {MAX_PARTS} fields" in caught.value.errors()[0]["msg"]
