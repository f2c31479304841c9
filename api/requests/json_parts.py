"""Counts the fields and elements of a JSON text, before a parser makes an object of each."""

import asyncio
import re

from fastapi import HTTPException, status

MAX_PARTS = 100_000  # an object takes up to 600 bytes and 5 µs, because errors name the field
_SLICE_BYTES = 4 * 1024 * 1024
_PAUSE_EVERY = 5_000  # tokens between two moments at which other requests run
# A string, which the end of the text may cut off, or what begins or separates fields and elements.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[,{\[]', re.DOTALL)


async def check_parts(body: bytes) -> None:
    """Raises HTTPException 413 if the JSON has more than `MAX_PARTS` fields and elements."""
    if await _at_most(body) <= MAX_PARTS:
        return
    parts = 0
    for number, token in enumerate(_TOKEN.finditer(body)):
        if token.end() - token.start() == 1:
            parts += 1
            if parts > MAX_PARTS:
                raise HTTPException(
                    status.HTTP_413_CONTENT_TOO_LARGE,
                    f"the body has more than {MAX_PARTS} fields and elements; send the requests to"
                    " POST /jobs as NDJSON, one request per line",
                )
        if number % _PAUSE_EVERY == 0:
            await asyncio.sleep(0)


async def _at_most(body: bytes) -> int:
    """Returns a number that is too high if strings contain commas or brackets, but soon known."""
    parts = 0
    for start in range(0, len(body), _SLICE_BYTES):
        end = start + _SLICE_BYTES
        parts += sum(body.count(mark, start, end) for mark in (b",", b"{", b"["))
        if end < len(body):
            await asyncio.sleep(0)
    return parts
